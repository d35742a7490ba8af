// ChronySocket: a socket to the chronyd of this host, by UDP to its command port or by its Unix
// socket.
//
// chronyd answers to the path from which it was asked, as a user of its own. So over a Unix socket
// this one has a path, too: in chronyd's directory, writable for everybody (who comes into that
// directory), and removed with the ChronySocket.
//
// Errors, without a Reason, are one sentence that names the address and says what to do.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CHRONY_SOCKET_H_
#define TSC_HANDOFF_SERVER_CLOCK_CHRONY_SOCKET_H_

#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::clock {

class ChronySocket {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // OK for "IPv4:PORT" with a loopback address, or for a socket's absolute path. The chronyd of
  // another host knows nothing of this host's clock.
  static absl::Status CheckAddress(const std::string& address);

  // Whether chronyd is there shows only when it is asked.
  static absl::StatusOr<ChronySocket> Open(const std::string& address);

  ChronySocket(ChronySocket&& other) noexcept
      : address_(std::move(other.address_)),
        socket_(std::move(other.socket_)),
        own_path_(std::exchange(other.own_path_, "")) {}
  ChronySocket& operator=(ChronySocket&&) = delete;
  ~ChronySocket();

  absl::Status Send(absl::string_view datagram);
  // The next datagram, cut at 512 bytes, which is longer than any that chronyd sends.
  // DeadlineExceeded when none comes in time.
  absl::StatusOr<std::string> Receive(Deadline deadline);

 private:
  explicit ChronySocket(std::string address) : address_(std::move(address)) {}
  absl::Status ConnectUdp();
  absl::Status ConnectUnix();
  absl::Status BindOwnPath();
  // The sentence for errno.
  absl::Status Failed() const;

  std::string address_;
  UniqueFd socket_;
  std::string own_path_;  // while it exists
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_SOCKET_H_
