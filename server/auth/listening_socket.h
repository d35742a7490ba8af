// Sockets that callers connect to, bound and listening.
//
// Threading: to be used while nothing else of the process makes files: a Unix socket gets its mode
// by the umask.
#ifndef TSC_HANDOFF_SERVER_AUTH_LISTENING_SOCKET_H_
#define TSC_HANDOFF_SERVER_AUTH_LISTENING_SOCKET_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/socket_lock.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::auth {

struct UnixSocket {
  SocketLock lock;  // removes the socket at the end
  UniqueFd socket;
};

// With mode 0660 from the first instant. Errors (without a Reason): see SocketLock; bind and
// listen.
absl::StatusOr<UnixSocket> ListenAtPath(const std::string& path);

struct TcpSockets {
  std::vector<UniqueFd> sockets;  // one for each address that the host's name has
  int port = 0;
};

// "HOST:PORT"; port 0 chooses one. 0.0.0.0 and [::] both are all addresses of this host, IPv4 and
// IPv6. What is accepted does not wait to send small packets. Errors (without a Reason): the
// address is malformed, has no such name, or is in use.
absl::StatusOr<TcpSockets> ListenAtTcp(const std::string& address);

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_LISTENING_SOCKET_H_
