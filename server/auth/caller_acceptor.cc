#include "server/auth/caller_acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/auth/http2_preface.h"
#include "server/auth/listening_socket.h"
#include "server/base/peer_credentials.h"

namespace tsc_handoff::auth {
namespace {

// Of one socket, before the others have their turn.
constexpr int kAcceptsInTurn = 64;
// Each connection has two descriptors: the one here and gRPC's.
constexpr size_t kDescriptorsEach = 2;
// Connections whose end is worth giving memory back for, once gRPC has freed it.
constexpr size_t kMany = 32;
constexpr std::chrono::seconds kCalmFor{1};

constexpr std::array kRefusedFor = {RefusedFor::kPeerLimit,   RefusedFor::kLimit,
                                    RefusedFor::kDescriptors, RefusedFor::kSilence,
                                    RefusedFor::kNotHttp2,    RefusedFor::kFlood};

bool Watch(int epoll, int fd, uint32_t events) {
  epoll_event event = {.events = events, .data = {.fd = fd}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

size_t AtMostHalfOfTheDescriptors(size_t max_connections) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return max_connections;
  // Half of them, shared by both kinds of sockets.
  return std::clamp<size_t>(limit.rlim_cur / 2 / 2 / kDescriptorsEach, 1, max_connections);
}

// As gRPC has it: "ipv4:10.0.0.1:4711", "ipv6:[::1]:4711". Empty: the connection has ended.
std::string AddressOf(int socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(v6.sin6_port));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  return absl::StrCat("ipv6:[", text, "]:", ntohs(v6.sin6_port));
}

}  // namespace

const char* NameOf(RefusedFor what) {
  switch (what) {
    case RefusedFor::kPeerLimit:
      return "peer_limit";
    case RefusedFor::kLimit:
      return "limit";
    case RefusedFor::kDescriptors:
      return "descriptors";
    case RefusedFor::kSilence:
      return "silence";
    case RefusedFor::kNotHttp2:
      return "not_http2";
    case RefusedFor::kFlood:
      break;
  }
  return "flood";
}

std::vector<std::string> RefusedForNames() {
  std::vector<std::string> names;
  for (const RefusedFor what : kRefusedFor) names.emplace_back(NameOf(what));
  return names;
}

CallerAcceptor::CallerAcceptor(Options options)
    : options_(std::move(options)),
      unix_counts_(AtMostHalfOfTheDescriptors(options_.max_connections),
                   options_.max_connections_per_peer),
      tcp_counts_(unix_counts_.max_in_all(), options_.max_connections_per_peer) {}

CallerAcceptor::~CallerAcceptor() { Stop(); }

absl::Status CallerAcceptor::ListenUnix(const std::string& path, Serve serve) {
  auto made = ListenAtPath(path);
  if (!made.ok()) return made.status();
  Listening& listening = listening_.emplace_back();
  listening.socket = std::move(made->socket);
  listening.lock.emplace(std::move(made->lock));
  listening.is_unix = true;
  listening.serve = std::move(serve);
  return absl::OkStatus();
}

absl::StatusOr<int> CallerAcceptor::ListenTcp(const std::string& address, bool tls, Serve serve) {
  auto made = ListenAtTcp(address);
  if (!made.ok()) return made.status();
  for (UniqueFd& socket : made->sockets) {
    Listening& listening = listening_.emplace_back();
    listening.socket = std::move(socket);
    listening.waits_for_preface = !tls;
    listening.serve = serve;
  }
  return made->port;
}

absl::Status CallerAcceptor::Start() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  spare_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  bool ready = epoll_.valid() && wake_.valid() && spare_.valid() &&
               Watch(epoll_.get(), wake_.get(), EPOLLIN);
  for (const Listening& listening : listening_)
    ready = ready && Watch(epoll_.get(), listening.socket.get(), EPOLLIN);
  if (!ready)
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make an epoll or eventfd: ", std::strerror(errno)));
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void CallerAcceptor::Stop() {
  if (thread_.joinable()) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    eventfd_write(wake_.get(), 1);
    thread_.join();
  }
  connections_.clear();
  waiting_.clear();
  listening_.clear();
}

void CallerAcceptor::Run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), NextTimeoutMs());
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_.get()) {
        eventfd_t ignored;
        eventfd_read(fd, &ignored);
        continue;
      }
      const auto connection = connections_.find(fd);
      if (connection == connections_.end()) {
        for (const Listening& listening : listening_) {
          if (listening.socket.get() == fd) AcceptSome(listening);
        }
      } else if (connection->second.waits) {
        LookAtBeginning(fd);
      } else {
        Ended(fd);
      }
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
    }
    DropSilent();
    DropFloods();
    NoticeCalm();
  }
}

void CallerAcceptor::Close(const std::string& peer, const std::string& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  closing_.push_back({PlainAddress(peer), why});
  eventfd_write(wake_.get(), 1);
}

void CallerAcceptor::DropFloods() {
  std::vector<Closing> closing;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closing.swap(closing_);
  }
  for (const Closing& each : closing) {
    const auto found = std::find_if(connections_.begin(), connections_.end(), [&](const auto& it) {
      const Connection& connection = it.second;
      if (connection.waits) return false;
      return each.peer == (connection.from->is_unix ? absl::StrCat("fd:", connection.number)
                                                    : PlainAddress(connection.who.address));
    });
    if (found == connections_.end()) continue;
    // gRPC has a descriptor of it, too.
    shutdown(found->first, SHUT_RDWR);
    Drop(found->first, RefusedFor::kFlood, each.why);
  }
}

int CallerAcceptor::NextTimeoutMs() const {
  if (waiting_.empty() && !calm_at_.has_value()) return -1;
  Clock::time_point next = calm_at_.value_or(Clock::time_point::max());
  if (!waiting_.empty()) next = std::min(next, waiting_.front().until);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

void CallerAcceptor::AcceptSome(const Listening& listening) {
  const int fd = listening.socket.get();
  for (int i = 0; i < kAcceptsInTurn; ++i) {
    UniqueFd socket(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      Admit(listening, std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE) {
      if (!RefuseForWantOfDescriptors(listening)) return;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    }
    // Anything else is that connection's own error (accept(2)): the next one may be well.
  }
}

// A connection that is not accepted would be reported by epoll again and again. False when there
// was none.
bool CallerAcceptor::RefuseForWantOfDescriptors(const Listening& listening) {
  spare_ = UniqueFd();
  const bool refused =
      UniqueFd(accept4(listening.socket.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid();
  spare_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (refused)
    Refuse({}, RefusedFor::kDescriptors,
           "the agent is out of descriptors; raise its limit (LimitNOFILE)");
  return refused;
}

std::optional<Identity> CallerAcceptor::WhoConnects(const Listening& listening, int socket) {
  if (listening.is_unix) {
    const auto credentials = ReadPeerCredentials(socket);
    if (!credentials.has_value()) return std::nullopt;
    return FromCredentials(*credentials);
  }
  Identity who;
  who.kind = Identity::Kind::kAnonymous;  // so far
  who.address = AddressOf(socket);
  if (who.address.empty()) return std::nullopt;
  return who;
}

void CallerAcceptor::Admit(const Listening& listening, UniqueFd socket) {
  auto who = WhoConnects(listening, socket.get());
  if (!who.has_value()) return;  // it has ended already
  const std::string peer =
      listening.is_unix ? absl::StrCat("uid ", who->uid) : TcpPeer(who->address);
  ConnectionCounts& counts = CountsOf(listening);
  switch (counts.Add(peer)) {
    case ConnectionCounts::Verdict::kCounted:
      break;
    case ConnectionCounts::Verdict::kTooManyOfPeer:
      return Refuse(*who, RefusedFor::kPeerLimit,
                    absl::StrCat(peer, " has ", counts.of(peer),
                                 " connections already, which is the limit for each peer "
                                 "(--max-connections-per-peer)"));
    case ConnectionCounts::Verdict::kTooManyInAll:
      return Refuse(*who, RefusedFor::kLimit,
                    absl::StrCat("there are ", counts.in_all(), " connections by ",
                                 listening.is_unix ? "Unix sockets" : "TCP",
                                 " already, which is the limit (--max-connections, and an eighth "
                                 "of LimitNOFILE)"));
  }
  const int fd = socket.get();
  Connection& connection = connections_[fd];
  connection = {.socket = std::move(socket),
                .from = &listening,
                .who = *std::move(who),
                .peer = peer,
                .waits = listening.waits_for_preface,
                .ordinal = ++last_ordinal_};
  // An edge for each piece of the beginning that comes in; later, it tells of the end only.
  if (!Watch(epoll_.get(), fd, connection.waits ? EPOLLIN | EPOLLRDHUP | EPOLLET : EPOLLRDHUP))
    return Drop(fd, RefusedFor::kDescriptors, "the agent cannot watch another connection");
  if (!connection.waits) return HandOver(connection);
  waiting_.push_back({Clock::now() + options_.preface_timeout, fd, connection.ordinal});
  LookAtBeginning(fd);
}

void CallerAcceptor::LookAtBeginning(int fd) {
  Connection& connection = connections_.find(fd)->second;
  switch (Peek(fd)) {
    case Beginning::kHttp2: {
      epoll_event event = {.events = EPOLLRDHUP, .data = {.fd = fd}};
      epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
      return HandOver(connection);
    }
    case Beginning::kNotYet:
      return;
    case Beginning::kNotHttp2:
      return Drop(fd, RefusedFor::kNotHttp2,
                  "it does not begin as HTTP/2 does; gRPC is spoken here, and without TLS");
    case Beginning::kEnded:
      return Ended(fd);
  }
}

void CallerAcceptor::HandOver(Connection& connection) {
  connection.waits = false;
  const int fd = connection.socket.get();
  UniqueFd given;
  std::string why;
  if (connection.from->is_unix) {
    auto number = peers_.Admit(fd, connection.who, PeerTable::Clock::now());
    if (number.ok()) {
      given = *std::move(number);
      connection.number = given.get();
    } else {
      why = std::string(number.status().message());
    }
  } else {
    given = UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!given.valid()) why = "the agent is out of descriptors; raise its limit (LimitNOFILE)";
  }
  if (!given.valid()) return Drop(fd, RefusedFor::kDescriptors, why);
  connection.from->serve(given.Release());
}

void CallerAcceptor::DropSilent() {
  const auto now = Clock::now();
  while (!waiting_.empty() && waiting_.front().until <= now) {
    const Waiting silent = waiting_.front();
    waiting_.pop_front();
    const auto found = connections_.find(silent.fd);
    if (found == connections_.end() || found->second.ordinal != silent.ordinal ||
        !found->second.waits)
      continue;
    Drop(
        silent.fd, RefusedFor::kSilence,
        absl::StrCat(
            "it did not begin to speak HTTP/2 within ",
            std::chrono::duration_cast<std::chrono::milliseconds>(options_.preface_timeout).count(),
            " ms (--handshake-timeout)"));
  }
}

void CallerAcceptor::NoticeCalm() {
  most_ = std::max(most_, connections_.size());
  const bool calm = most_ >= kMany && connections_.size() < most_ / 4;
  if (!calm) {
    calm_at_.reset();
  } else if (!calm_at_.has_value()) {
    calm_at_ = Clock::now() + kCalmFor;
  } else if (*calm_at_ <= Clock::now()) {
    calm_at_.reset();
    most_ = connections_.size();
    if (options_.on_calm) options_.on_calm();
  }
}

void CallerAcceptor::Drop(int fd, RefusedFor what, const std::string& why) {
  const Identity who = connections_.find(fd)->second.who;
  Ended(fd);
  Refuse(who, what, why);
}

// The caller has closed it, or gRPC has: both shut the socket down, whoever holds descriptors of
// it.
void CallerAcceptor::Ended(int fd) {
  const auto found = connections_.find(fd);
  const Connection& connection = found->second;
  if (connection.number >= 0) peers_.Ended(connection.number, PeerTable::Clock::now());
  CountsOf(*connection.from).Remove(connection.peer);
  // To close it is not enough while gRPC has the connection.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  connections_.erase(found);
}

void CallerAcceptor::Refuse(const Identity& who, RefusedFor what, const std::string& why) {
  if (options_.on_refused) options_.on_refused(who, what, why);
}

}  // namespace tsc_handoff::auth
