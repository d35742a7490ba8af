#include "server/auth/connection_counts.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/auth/identity.h"

namespace tsc_handoff::auth {

ConnectionCounts::Verdict ConnectionCounts::Add(const std::string& peer) {
  // First what a peer has himself to blame for.
  if (of(peer) >= max_per_peer_) return Verdict::kTooManyOfPeer;
  if (in_all_ >= max_in_all_) return Verdict::kTooManyInAll;
  ++of_[peer];
  ++in_all_;
  return Verdict::kCounted;
}

void ConnectionCounts::Remove(const std::string& peer) {
  const auto found = of_.find(peer);
  if (--found->second == 0) of_.erase(found);
  --in_all_;
}

size_t ConnectionCounts::of(const std::string& peer) const {
  const auto found = of_.find(peer);
  return found == of_.end() ? 0 : found->second;
}

std::string TcpPeer(const std::string& address) {
  const std::string plain = PlainAddress(address);
  const std::string host = plain.substr(0, plain.rfind(':'));
  if (host.empty() || host.front() != '[') return host;
  // A zone ("%eth0") says through which interface, not who.
  const std::string number = host.substr(1, std::min(host.find('%'), host.size() - 1) - 1);
  in6_addr v6 = {};
  if (inet_pton(AF_INET6, number.c_str(), &v6) != 1) return host;
  std::memset(&v6.s6_addr[8], 0, 8);
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(AF_INET6, &v6, text, sizeof(text));
  return absl::StrCat(text, "/64");
}

}  // namespace tsc_handoff::auth
