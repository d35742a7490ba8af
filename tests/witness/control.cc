#include "tests/witness/control.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::witness {
namespace {

using nlohmann::json;

constexpr size_t kLongestLine = 64 * 1024;
constexpr size_t kMostClients = 16;
// A reply of 64 vCPUs has some 40 kB, below a socket's buffer; a client that does not read it is
// not waited for long.
constexpr timeval kSendTimeout = {.tv_sec = 2, .tv_usec = 0};

absl::StatusOr<sockaddr_un> Address(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("a socket's path has 1 to 107 bytes: ", path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// A connected socket, or -1 with errno.
int Connect(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

bool SendAll(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}

std::string Line(const json& reply) {
  return reply.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Listen(const std::string& path) {
  absl::StatusOr<sockaddr_un> address = Address(path);
  if (!address.ok()) return address.status();
  if (const int probe = Connect(*address); probe >= 0) {
    close(probe);
    return absl::AlreadyExistsError(
        absl::StrCat("somebody listens at ", path, " already: choose another --control"));
  }
  // A file that is no socket refuses connections too; bind then says that the path is taken.
  if (struct stat info;
      errno == ECONNREFUSED && lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
    unlink(path.c_str());
  }

  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "socket");
  const mode_t mask = umask(0177);
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0;
  const int error = errno;
  umask(mask);
  if (!bound || listen(fd, kMostClients) != 0) {
    const int why = bound ? errno : error;
    close(fd);
    return absl::ErrnoToStatus(why, absl::StrCat("cannot listen at ", path));
  }
  return std::unique_ptr<ControlServer>(new ControlServer(path, fd));
}

ControlServer::~ControlServer() {
  for (auto& [fd, line] : clients_) close(fd);
  close(listen_fd_);
  unlink(path_.c_str());
}

void ControlServer::AddPollFds(std::vector<pollfd>* fds) const {
  fds->push_back({.fd = listen_fd_, .events = POLLIN, .revents = 0});
  for (auto& [fd, line] : clients_) fds->push_back({.fd = fd, .events = POLLIN, .revents = 0});
}

void ControlServer::Serve(const std::vector<pollfd>& fds, const Handler& handler) {
  for (const pollfd& entry : fds) {
    if (entry.revents == 0) continue;
    if (entry.fd == listen_fd_) {
      Accept();
    } else if (clients_.contains(entry.fd) && !ReadFrom(entry.fd, handler)) {
      clients_.erase(entry.fd);
      close(entry.fd);
    }
  }
}

void ControlServer::Accept() {
  const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (clients_.size() >= kMostClients) {
    SendAll(fd, Line({{"ok", false}, {"error", "too many control connections: close one"}}));
    close(fd);
    return;
  }
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout);
  clients_[fd] = "";
}

// Returns false when the client is to be dropped.
bool ControlServer::ReadFrom(int fd, const Handler& handler) {
  char buffer[4096];
  const ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return false;
  std::string& pending = clients_[fd];
  pending.append(buffer, static_cast<size_t>(n));
  for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
    const json request = json::parse(pending.substr(0, end), nullptr, /*allow_exceptions=*/false);
    if (!SendAll(fd, Line(handler(request)))) return false;
  }
  if (pending.size() <= kLongestLine) return true;
  SendAll(fd, Line({{"ok", false}, {"error", "the request is longer than 64 KiB"}}));
  return false;
}

absl::StatusOr<std::string> SendRequest(const std::string& path, const std::string& request,
                                        int timeout_ms) {
  absl::StatusOr<sockaddr_un> address = Address(path);
  if (!address.ok()) return address.status();
  const int fd = Connect(*address);
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat("cannot reach a witness at ", path, ": ",
                                               std::strerror(errno), "; is it running?"));
  }
  const timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  absl::StatusOr<std::string> reply =
      absl::UnavailableError("the witness closed the connection: look at its stderr");
  std::string bytes;
  char buffer[4096];
  if (SendAll(fd, request + "\n")) {
    for (;;) {
      const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        reply = absl::DeadlineExceededError(absl::StrCat("no reply within ", timeout_ms, " ms"));
      if (n <= 0) break;
      bytes.append(buffer, static_cast<size_t>(n));
      if (const size_t end = bytes.find('\n'); end != std::string::npos) {
        reply = bytes.substr(0, end);
        break;
      }
    }
  }
  close(fd);
  return reply;
}

}  // namespace tsc_handoff::witness
