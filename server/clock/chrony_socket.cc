#include "server/clock/chrony_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {
namespace {

constexpr size_t kMaxDatagramBytes = 512;

bool IsPath(const std::string& address) { return absl::StartsWith(address, "/"); }

bool ParseUdp(const std::string& address, sockaddr_in& out) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port == 0 || port > 65535)
    return false;
  out.sin_family = AF_INET;
  out.sin_port = htons(static_cast<uint16_t>(port));
  return inet_pton(AF_INET, address.substr(0, colon).c_str(), &out.sin_addr) == 1;
}

bool IsLoopback(const sockaddr_in& address) {
  return ntohl(address.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
}

bool ParseUnix(const std::string& path, sockaddr_un& out) {
  out.sun_family = AF_UNIX;
  if (path.size() >= sizeof(out.sun_path)) return false;
  std::memcpy(out.sun_path, path.c_str(), path.size() + 1);
  return true;
}

// Lets everybody write to the socket at `path`, and changes nothing if somebody has put something
// else there meanwhile: the directory is chronyd's, not ours.
bool LetEverybodyWrite(const std::string& path) {
  constexpr mode_t kReadAndWrite = 0666;
  const UniqueFd file(open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) return false;
  if (!S_ISSOCK(info.st_mode)) {
    errno = ENOTSOCK;
    return false;
  }
  return chmod(absl::StrCat("/proc/self/fd/", file.get()).c_str(), kReadAndWrite) == 0;
}

}  // namespace

absl::Status ChronySocket::CheckAddress(const std::string& address) {
  sockaddr_in udp = {};
  sockaddr_un unix_address = {};
  if (IsPath(address) ? ParseUnix(address, unix_address)
                      : ParseUdp(address, udp) && IsLoopback(udp))
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", address,
      "\" is no address of this host's chronyd; give IPv4:PORT with a loopback address, or the "
      "absolute path of its socket, at most ",
      sizeof(sockaddr_un::sun_path) - 1, " bytes long"));
}

absl::StatusOr<ChronySocket> ChronySocket::Open(const std::string& address) {
  if (absl::Status status = CheckAddress(address); !status.ok()) return status;
  ChronySocket out(address);
  if (absl::Status status = IsPath(address) ? out.ConnectUnix() : out.ConnectUdp(); !status.ok())
    return status;
  return out;
}

ChronySocket::~ChronySocket() {
  if (!own_path_.empty()) unlink(own_path_.c_str());
}

absl::Status ChronySocket::Failed() const {
  switch (errno) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOENT:
    case ENOTCONN:
      return absl::UnavailableError(absl::StrCat("chronyd does not answer at ", address_,
                                                 "; is it running, and does it listen there?"));
    case EAGAIN:
    case ETIMEDOUT:
      return absl::DeadlineExceededError(absl::StrCat(
          "chronyd is silent at ", address_, "; is it running, and not stopped or overloaded?"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat("chronyd cannot be asked at ", address_, ": ", strerror(errno),
                       "; run the agent as root, or let it ask by UDP"));
    default:
      return absl::UnavailableError(absl::StrCat("chronyd cannot be asked at ", address_, ": ",
                                                 strerror(errno), "; look at the host's limits"));
  }
}

absl::Status ChronySocket::ConnectUdp() {
  sockaddr_in theirs = {};
  ParseUdp(address_, theirs);
  socket_ = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_.valid() ||
      connect(socket_.get(), reinterpret_cast<sockaddr*>(&theirs), sizeof(theirs)) != 0)
    return Failed();
  return absl::OkStatus();
}

absl::Status ChronySocket::BindOwnPath() {
  static std::atomic<uint32_t> count{0};
  const std::string path = absl::StrCat(address_.substr(0, address_.rfind('/')), "/tsc-agent.",
                                        getpid(), ".", ++count, ".sock");
  sockaddr_un ours = {};
  if (!ParseUnix(path, ours)) {
    errno = ENAMETOOLONG;
    return Failed();
  }
  unlink(path.c_str());  // left by a process of the same number that was killed
  if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&ours), sizeof(ours)) != 0) return Failed();
  own_path_ = path;
  return LetEverybodyWrite(path) ? absl::OkStatus() : Failed();
}

absl::Status ChronySocket::ConnectUnix() {
  sockaddr_un theirs = {};
  ParseUnix(address_, theirs);
  socket_ = UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // First of all, so that nothing is left in the directory while chronyd is away.
  if (!socket_.valid() ||
      connect(socket_.get(), reinterpret_cast<sockaddr*>(&theirs), sizeof(theirs)) != 0)
    return Failed();
  return BindOwnPath();
}

absl::Status ChronySocket::Send(absl::string_view datagram) {
  if (send(socket_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL) < 0) return Failed();
  return absl::OkStatus();
}

absl::StatusOr<std::string> ChronySocket::Receive(Deadline deadline) {
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd readable = {socket_.get(), POLLIN, 0};
    const int ready = left.count() > 0 ? poll(&readable, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      if (ready == 0) errno = ETIMEDOUT;
      return Failed();
    }
    char datagram[kMaxDatagramBytes];
    const ssize_t size = recv(socket_.get(), datagram, sizeof(datagram), 0);
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (size < 0) return Failed();
    return std::string(datagram, static_cast<size_t>(size));
  }
}

}  // namespace tsc_handoff::clock
