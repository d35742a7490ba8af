#include "server/auth/unix_acceptor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/peer_credentials.h"

namespace tsc_handoff::auth {
namespace {

constexpr int kBacklog = 128;

absl::Status CannotListen(const std::string& path, int error) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen at ", path, ": ", std::strerror(error)));
}

bool Watch(int epoll, int fd, uint32_t events) {
  epoll_event event = {.events = events, .data = {.fd = fd}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

UnixAcceptor::~UnixAcceptor() { Stop(); }

absl::Status UnixAcceptor::Listen(const std::string& path) {
  auto lock = SocketLock::Take(path);
  if (!lock.ok()) return lock.status();
  UniqueFd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
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
  locks_.push_back(*std::move(lock));
  listening_.push_back(std::move(listening));
  return absl::OkStatus();
}

absl::Status UnixAcceptor::Start(std::function<void(int)> serve) {
  serve_ = std::move(serve);
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  spare_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  bool ready = epoll_.valid() && stop_.valid() && spare_.valid() &&
               Watch(epoll_.get(), stop_.get(), EPOLLIN);
  for (const UniqueFd& listening : listening_)
    ready = ready && Watch(epoll_.get(), listening.get(), EPOLLIN);
  if (!ready)
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make an epoll or eventfd: ", std::strerror(errno)));
  thread_ = std::thread([this] { Serve(); });
  return absl::OkStatus();
}

void UnixAcceptor::Stop() {
  if (thread_.joinable()) {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }
  listening_.clear();
  locks_.clear();
  watched_.clear();
}

void UnixAcceptor::Serve() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == stop_.get()) return;
      if (watched_.count(fd) > 0) {
        Ended(fd);
      } else {
        AcceptAll(fd);
      }
    }
  }
}

void UnixAcceptor::AcceptAll(int listening) {
  for (;;) {
    UniqueFd socket(accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      Admit(std::move(socket));
    } else if (errno != ECONNABORTED && errno != EINTR) {
      const bool none_left = errno == EMFILE || errno == ENFILE;
      if (!none_left || !RefuseForWantOfDescriptors(listening)) return;
    }
  }
}

// A connection that is not accepted would be reported by epoll again and again. False when there
// was none.
bool UnixAcceptor::RefuseForWantOfDescriptors(int listening) {
  spare_ = UniqueFd();
  const bool refused = UniqueFd(accept4(listening, nullptr, nullptr, SOCK_CLOEXEC)).valid();
  spare_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (refused) Refuse({}, "the agent is out of descriptors; raise its limit (LimitNOFILE)");
  return refused;
}

void UnixAcceptor::Admit(UniqueFd socket) {
  const auto credentials = ReadPeerCredentials(socket.get());
  if (!credentials.has_value()) return Refuse({}, "the kernel does not say who connects");
  const Identity who = FromCredentials(*credentials);
  const auto known = connections_of_.find(who.uid);
  const size_t connections = known == connections_of_.end() ? 0 : known->second;
  if (connections >= options_.max_connections_per_user)
    return Refuse(who, absl::StrCat("uid ", who.uid, " has ", connections,
                                    " connections already; no user may have more"));
  auto number = peers_.Admit(socket.get(), who, PeerTable::Clock::now());
  if (!number.ok()) return Refuse(who, std::string(number.status().message()));
  const int fd = socket.get();
  // It tells of the end only: gRPC reads.
  if (!Watch(epoll_.get(), fd, EPOLLRDHUP)) {
    peers_.Ended(number->get(), PeerTable::Clock::now());
    return Refuse(who, "the agent cannot watch another connection");
  }
  connections_of_[who.uid] = connections + 1;
  watched_[fd] = {std::move(socket), number->get(), who.uid};
  serve_(number->Release());
}

// The caller has closed it, or gRPC has: both shut the socket down, whoever holds descriptors of
// it.
void UnixAcceptor::Ended(int fd) {
  const auto found = watched_.find(fd);
  peers_.Ended(found->second.number, PeerTable::Clock::now());
  const auto connections = connections_of_.find(found->second.uid);
  if (--connections->second == 0) connections_of_.erase(connections);
  // To close it is not enough while gRPC has the connection.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched_.erase(found);
}

void UnixAcceptor::Refuse(const Identity& who, const std::string& why) {
  if (options_.on_refused) options_.on_refused(who, why);
}

}  // namespace tsc_handoff::auth
