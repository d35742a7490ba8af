// ConnectionCounts: how many connections there are, in all and of each peer, and whether there may
// be another one.
//
// Threading: not thread-safe.
#ifndef TSC_HANDOFF_SERVER_AUTH_CONNECTION_COUNTS_H_
#define TSC_HANDOFF_SERVER_AUTH_CONNECTION_COUNTS_H_

#include <cstddef>
#include <string>
#include <unordered_map>

namespace tsc_handoff::auth {

class ConnectionCounts {
 public:
  enum class Verdict { kCounted, kTooManyOfPeer, kTooManyInAll };

  ConnectionCounts(size_t max_in_all, size_t max_per_peer)
      : max_in_all_(max_in_all), max_per_peer_(max_per_peer) {}

  // Counts one, if there may be another.
  Verdict Add(const std::string& peer);
  // REQUIRES: one of that peer is counted.
  void Remove(const std::string& peer);

  size_t of(const std::string& peer) const;
  size_t in_all() const { return in_all_; }
  size_t max_in_all() const { return max_in_all_; }

 private:
  const size_t max_in_all_;
  const size_t max_per_peer_;
  size_t in_all_ = 0;
  std::unordered_map<std::string, size_t> of_;  // only those who have any
};

// What counts as one peer of those who connect by TCP, of "ipv4:10.0.0.1:4711": its address without
// the port; of IPv6 the network of 64 bits that everybody has to himself: "10.0.0.1",
// "2001:db8:0:1::/64".
std::string TcpPeer(const std::string& address);

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_CONNECTION_COUNTS_H_
