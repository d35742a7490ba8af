#include "server/auth/listening_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::auth {
namespace {

constexpr int kFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
// A client that does not block gets an error where this is full.
constexpr int kBacklog = SOMAXCONN;

absl::Status CannotListen(const std::string& address, int error) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen at ", address, ": ", std::strerror(error),
                   error == EADDRINUSE ? "; is another agent running?" : ""));
}

bool Set(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

// Listens, or says why not by errno.
UniqueFd Listen(const sockaddr* address, socklen_t length) {
  UniqueFd fd(socket(address->sa_family, kFlags, 0));
  const bool v6 = address->sa_family == AF_INET6;
  if (fd.valid() && Set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1) &&
      Set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1) &&
      (!v6 || Set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
      bind(fd.get(), address, length) == 0 && listen(fd.get(), kBacklog) == 0)
    return fd;
  const int error = errno;
  fd = UniqueFd();
  errno = error;
  return fd;
}

int PortOf(int socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return address.ss_family == AF_INET6
             ? ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port)
             : ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void SetPort(sockaddr* address, int port) {
  const auto value = htons(static_cast<uint16_t>(port));
  if (address->sa_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = value;
  } else {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = value;
  }
}

absl::StatusOr<TcpSockets> ListenEverywhere(const std::string& address, uint16_t port) {
  sockaddr_in6 all = {};
  all.sin6_family = AF_INET6;
  all.sin6_port = htons(port);
  UniqueFd fd = Listen(reinterpret_cast<const sockaddr*>(&all), sizeof(all));
  if (!fd.valid() && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {  // there is no IPv6
    sockaddr_in all_v4 = {};
    all_v4.sin_family = AF_INET;
    all_v4.sin_port = htons(port);
    fd = Listen(reinterpret_cast<const sockaddr*>(&all_v4), sizeof(all_v4));
  }
  if (!fd.valid()) return CannotListen(address, errno);
  TcpSockets listening;
  listening.port = PortOf(fd.get());
  listening.sockets.push_back(std::move(fd));
  return listening;
}

}  // namespace

absl::StatusOr<UnixSocket> ListenAtPath(const std::string& path) {
  auto lock = SocketLock::Take(path);
  if (!lock.ok()) return lock.status();
  UniqueFd listening(socket(AF_UNIX, kFlags, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());  // SocketLock has checked its length
  const mode_t mask = umask(0117);  // rw for user and group, from the first instant
  const bool bound =
      listening.valid() &&
      bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int bind_error = errno;
  umask(mask);
  if (!bound) return CannotListen(path, bind_error);
  if (listen(listening.get(), kBacklog) != 0) return CannotListen(path, errno);
  return UnixSocket{*std::move(lock), std::move(listening)};
}

absl::StatusOr<TcpSockets> ListenAtTcp(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size())
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen at ", address, ": it is neither unix:/PATH nor HOST:PORT"));
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  const int failed = getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &raw);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> found(raw, freeaddrinfo);
  if (failed != 0)
    return absl::FailedPreconditionError(
        absl::StrCat("cannot listen at ", address, ": ", gai_strerror(failed)));
  if (host == "0.0.0.0" || host == "::") {
    const auto* first = reinterpret_cast<const sockaddr_in*>(found->ai_addr);
    return ListenEverywhere(address, ntohs(first->sin_port));  // at the same place in sockaddr_in6
  }
  TcpSockets listening;
  int error = 0;
  for (addrinfo* each = found.get(); each != nullptr; each = each->ai_next) {
    if (listening.port != 0) SetPort(each->ai_addr, listening.port);
    UniqueFd fd = Listen(each->ai_addr, each->ai_addrlen);
    if (!fd.valid()) {
      error = errno;
      continue;
    }
    listening.port = PortOf(fd.get());
    listening.sockets.push_back(std::move(fd));
  }
  // A name may have an address of a family that this host has not.
  if (listening.sockets.empty() || error == EADDRINUSE) return CannotListen(address, error);
  return listening;
}

}  // namespace tsc_handoff::auth
