#include "client/qmp/line_socket.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tsc_handoff::qmp {
namespace {

constexpr size_t kReadBytes = 16 * 1024;

absl::Status Gone(const char* doing, int error) {
  return absl::UnavailableError(absl::StrCat(doing, ": ", std::strerror(error)));
}

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;
};

// REQUIRES: checked by ParseQmpAddress.
SocketAddress AddressOf(const QmpAddress& address) {
  SocketAddress result;
  if (!address.unix_path.empty()) {
    auto* to = reinterpret_cast<sockaddr_un*>(&result.storage);
    to->sun_family = AF_UNIX;
    std::memcpy(to->sun_path, address.unix_path.data(), address.unix_path.size());
    result.size = sizeof(*to);
  } else if (address.ipv6) {
    auto* to = reinterpret_cast<sockaddr_in6*>(&result.storage);
    to->sin6_family = AF_INET6;
    to->sin6_port = htons(address.port);
    inet_pton(AF_INET6, address.host.c_str(), &to->sin6_addr);
    result.size = sizeof(*to);
  } else {
    auto* to = reinterpret_cast<sockaddr_in*>(&result.storage);
    to->sin_family = AF_INET;
    to->sin_port = htons(address.port);
    inet_pton(AF_INET, address.host.c_str(), &to->sin_addr);
    result.size = sizeof(*to);
  }
  return result;
}

}  // namespace

absl::StatusOr<LineSocket> LineSocket::Connect(const QmpAddress& address, absl::Duration timeout) {
  const SocketAddress to = AddressOf(address);
  UniqueFd fd(socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Gone("socket", errno);
  LineSocket result(std::move(fd));
  if (connect(result.fd_.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size) == 0)
    return result;
  // EAGAIN: a Unix socket whose queue of connections is full, which no poll() tells the end of.
  if (errno != EINPROGRESS) return Gone("connect", errno);
  const absl::StatusOr<bool> ready = result.Wait(POLLOUT, absl::Now() + timeout);
  if (!ready.ok()) return ready.status();
  if (!*ready) return absl::DeadlineExceededError("connect: no answer in time");
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(result.fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return Gone("connect", error);
  return result;
}

absl::StatusOr<bool> LineSocket::Wait(short events, absl::Time deadline) {
  while (true) {
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    // Rounded up, or the last fraction of a millisecond would be spent spinning.
    const int64_t left_ms = absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)));
    pollfd polled = {.fd = fd_.get(), .events = events, .revents = 0};
    const int ready = poll(&polled, 1, static_cast<int>(std::min<int64_t>(left_ms, 1 << 30)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return Gone("poll", errno);
    if (left == absl::ZeroDuration()) return false;
  }
}

absl::Status LineSocket::Write(absl::string_view text, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!text.empty()) {
    const ssize_t written = send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return Gone("send", errno);
    const absl::StatusOr<bool> ready = Wait(POLLOUT, deadline);
    if (!ready.ok()) return ready.status();
    // Half a command is on its way: nothing that comes after it would be understood.
    if (!*ready) return absl::UnavailableError("send: nothing was taken in time");
  }
  return absl::OkStatus();
}

std::optional<std::string> LineSocket::TakeLine() {
  const size_t end = buffer_.find('\n', searched_);
  if (end == std::string::npos) {
    searched_ = buffer_.size();
    return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  searched_ = 0;
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

absl::StatusOr<std::optional<std::string>> LineSocket::ReadLine(size_t max_bytes,
                                                                absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    if (std::optional<std::string> line = TakeLine(); line.has_value()) return line;
    if (buffer_.size() > max_bytes) {
      return absl::DataLossError(
          absl::StrCat("a line of more than ", max_bytes, " bytes came: that is no QMP"));
    }
    const size_t had = buffer_.size();
    buffer_.resize(had + kReadBytes);
    const ssize_t got = recv(fd_.get(), buffer_.data() + had, kReadBytes, 0);
    const int error = errno;
    buffer_.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got > 0) continue;
    if (got == 0) return absl::UnavailableError("the connection was closed");
    if (error == EINTR) continue;
    if (error != EAGAIN && error != EWOULDBLOCK) return Gone("recv", error);
    const absl::StatusOr<bool> ready = Wait(POLLIN, deadline);
    if (!ready.ok()) return ready.status();
    if (!*ready) return std::nullopt;
  }
}

}  // namespace tsc_handoff::qmp
