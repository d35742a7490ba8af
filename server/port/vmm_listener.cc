#include "server/port/vmm_listener.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/vmm/tsc_wire.h"
#include "server/base/failpoint.h"
#include "server/port/cooperative_port.h"

namespace tsc_handoff::port {
namespace {

constexpr int kBacklog = 128;
constexpr uint32_t kHelloFlags = TSC_WIRE_AWAITS_HANDOFF | TSC_WIRE_IS_RUNNING;
constexpr char kOutOfDescriptors[] =
    "the agent is out of descriptors; raise its limit (LimitNOFILE), then try again";

int64_t RealtimeNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool ValidVmId(const std::string& id) {
  if (id.empty() || id.size() > TSC_WIRE_VM_ID_MAX) return false;
  for (char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && std::strchr("._:-", c) == nullptr)
      return false;
  }
  return true;
}

// One packet with its descriptors, all of which are owned whatever happens.
struct Packet {
  alignas(8) char bytes[sizeof(tsc_wire_vcpus)];
  ssize_t size = 0;
  bool truncated = false;
  std::vector<UniqueFd> fds;
};

Packet Receive(int socket) {
  Packet packet;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * TSC_WIRE_FDS_PER_MESSAGE)];
  iovec io = {packet.bytes, sizeof(packet.bytes)};
  msghdr header = {};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  do {
    packet.size = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (packet.size < 0 && errno == EINTR);
  if (packet.size < 0) return packet;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      packet.fds.emplace_back(fd);
    }
  }
  packet.truncated = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  return packet;
}

// The VMM gets the answer if it still listens; if not, its connection ends anyway. What it has sent
// meanwhile is taken, and it can send no more: a socket that is closed with something unread tells
// the other end of an error in place of the answer.
void SendRefused(int socket, const std::string& text) {
  tsc_wire_refused refused = {};
  refused.header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_REFUSED, 0};
  std::memcpy(refused.text, text.data(), std::min(text.size(), sizeof(refused.text) - 1));
  (void)send(socket, &refused, sizeof(refused), MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)shutdown(socket, SHUT_RD);
  char ignored;
  while (recv(socket, &ignored, sizeof(ignored), MSG_DONTWAIT) > 0) continue;
}

}  // namespace

VmmListener::VmmListener(Options options, registry::VmRegistry& registry, DescriptorCheck& check)
    : options_(std::move(options)), registry_(registry), check_(check) {}

VmmListener::~VmmListener() { Stop(); }

absl::Status VmmListener::Start() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  spare_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!epoll_.valid() || !wake_.valid() || !spare_.valid()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make an epoll or eventfd: ", strerror(errno)));
  }
  epoll_event event = {.events = EPOLLIN, .data = {.fd = wake_.get()}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event);
  if (!options_.socket_path.empty()) {
    if (absl::Status status = Bind(); !status.ok()) return status;
  }
  thread_ = std::thread([this] { Serve(); });
  return absl::OkStatus();
}

absl::Status VmmListener::Bind() {
  auto lock = SocketLock::Take(options_.socket_path);
  if (!lock.ok()) return lock.status();
  lock_ = *std::move(lock);
  listening_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, options_.socket_path.c_str(), options_.socket_path.size());
  const mode_t mask = umask(0117);  // rw for user and group, from the first instant
  const bool bound =
      listening_.valid() &&
      bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int bind_error = errno;
  umask(mask);
  if (!bound || listen(listening_.get(), kBacklog) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("cannot listen at ", options_.socket_path,
                                                      ": ", strerror(bound ? errno : bind_error)));
  }
  epoll_event event = {.events = EPOLLIN, .data = {.fd = listening_.get()}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listening_.get(), &event);
  return absl::OkStatus();
}

void VmmListener::Adopt(UniqueFd socket) {
  std::lock_guard<std::mutex> lock(mutex_);
  adopted_.push_back(std::move(socket));
  eventfd_write(wake_.get(), 1);
}

void VmmListener::Stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  thread_.join();
  listening_ = UniqueFd();
  lock_.reset();
}

void VmmListener::Serve() {
  std::vector<epoll_event> events(64);
  while (true) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), NextTimeoutMs());
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_.get()) {
        TakeAdopted();
      } else if (fd == listening_.get()) {
        AcceptAll();
      } else {
        OnReadable(fd);
      }
    }
    DropExpired();
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) break;
  }
  while (!connections_.empty()) Drop(connections_.begin()->first, "the agent stops");
}

void VmmListener::TakeAdopted() {
  eventfd_t ignored;
  eventfd_read(wake_.get(), &ignored);
  std::vector<UniqueFd> adopted;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    adopted.swap(adopted_);
  }
  for (UniqueFd& socket : adopted) AddConnection(std::move(socket), registry::PortKind::kInProcess);
}

void VmmListener::AcceptAll() {
  while (true) {
    UniqueFd socket(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid()) {
      if (errno != EMFILE && errno != ENFILE) return;
      if (!RefuseForWantOfDescriptors()) return;
      continue;
    }
    AddConnection(std::move(socket), registry::PortKind::kCooperative);
  }
}

// A connection that is not accepted would be reported by epoll again and again. Gives the spare
// descriptor up for as long as it takes to tell the VMM. False when there was nobody to tell.
bool VmmListener::RefuseForWantOfDescriptors() {
  spare_ = UniqueFd();
  const UniqueFd socket(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (socket.valid()) SendRefused(socket.get(), kOutOfDescriptors);
  spare_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  return socket.valid();
}

void VmmListener::AddConnection(UniqueFd socket, registry::PortKind kind) {
  if (kind == registry::PortKind::kCooperative && handshakes_ >= options_.max_handshakes) {
    SendRefused(socket.get(), "too many VMMs are registering at once; try again");
    return;
  }
  Connection connection;
  if (kind == registry::PortKind::kCooperative) {
    auto peer = ReadPeerCredentials(socket.get());
    if (!peer.has_value()) return;
    connection.peer = *std::move(peer);
  }
  const int fd = socket.get();
  connection.socket = std::move(socket);
  connection.kind = kind;
  connection.deadline = Clock::now() + kHandshakeTimeout;
  epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data = {.fd = fd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return;
  connections_.emplace(fd, std::move(connection));
  ++handshakes_;
}

void VmmListener::OnReadable(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;  // dropped by an earlier event of the same round
  Connection& connection = found->second;
  if (connection.registered != nullptr) {
    Drop(fd, "the VMM has closed its connection");
    return;
  }
  if (absl::Status status = OnMessage(connection); !status.ok()) {
    const std::string why(status.message());
    SendRefused(fd, why);
    Drop(fd, absl::StrCat("refused: ", why));
  }
}

void VmmListener::DropExpired() {
  if (handshakes_ == 0) return;
  const auto now = Clock::now();
  std::vector<int> expired;
  for (const auto& [fd, connection] : connections_) {
    if (connection.registered == nullptr && connection.deadline <= now) expired.push_back(fd);
  }
  for (int fd : expired) {
    SendRefused(fd, "the registration was not complete in time");
    Drop(fd, "refused: the registration was not complete in time");
  }
}

int VmmListener::NextTimeoutMs() const {
  if (handshakes_ == 0) return -1;
  auto next = Clock::time_point::max();
  for (const auto& [fd, connection] : connections_) {
    if (connection.registered == nullptr) next = std::min(next, connection.deadline);
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

void VmmListener::Drop(int fd, const std::string& why) {
  const auto found = connections_.find(fd);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  Connection connection = std::move(found->second);
  connections_.erase(found);
  if (connection.registered == nullptr) {
    --handshakes_;
  } else {
    registry_.Remove(*connection.registered);
  }
  if (options_.on_event) options_.on_event(connection.vm_id, connection.peer.pid, why);
}

absl::Status VmmListener::OnMessage(Connection& connection) {
  Packet packet = Receive(connection.socket.get());
  if (packet.size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return absl::OkStatus();
  if (packet.size <= 0) return absl::UnavailableError("the VMM ended its registration");
  if (packet.truncated || static_cast<size_t>(packet.size) < sizeof(tsc_wire_header)) {
    return absl::InvalidArgumentError(
        "a registration message has an impossible length or too many descriptors, or the agent is "
        "out of descriptors");
  }
  tsc_wire_header header;
  std::memcpy(&header, packet.bytes, sizeof(header));
  if (header.magic != TSC_WIRE_MAGIC)
    return absl::InvalidArgumentError("this is not the protocol of tsc_vmm");
  if (header.version != TSC_WIRE_VERSION) {
    return absl::InvalidArgumentError(
        absl::StrCat("the VMM speaks version ", header.version, " of the protocol, this agent ",
                     TSC_WIRE_VERSION, "; link the tsc_vmm library of the agent's release"));
  }
  const auto size = static_cast<size_t>(packet.size);
  absl::Status status = absl::InvalidArgumentError("a registration message out of order");
  if (header.type == TSC_WIRE_HELLO && connection.vcpu_count == 0) {
    status = OnHello(connection, packet.bytes, size, std::move(packet.fds));
  } else if (header.type == TSC_WIRE_VCPUS && connection.vcpu_count != 0) {
    status = OnVcpus(connection, packet.bytes, size, std::move(packet.fds));
  }
  if (!status.ok() || connection.vcpu_count == 0 || connection.ids.size() < connection.vcpu_count)
    return status;
  return Register(connection);
}

absl::Status VmmListener::OnHello(Connection& connection, const void* message, size_t size,
                                  std::vector<UniqueFd> fds) {
  tsc_wire_hello hello;
  if (size != sizeof(hello)) return absl::InvalidArgumentError("a HELLO of the wrong length");
  if (fds.size() != 1) {
    return absl::InvalidArgumentError("HELLO must carry one descriptor, the VM's");
  }
  std::memcpy(&hello, message, sizeof(hello));
  const std::string vm_id(hello.vm_id, strnlen(hello.vm_id, sizeof(hello.vm_id)));
  if (!ValidVmId(vm_id)) {
    return absl::InvalidArgumentError("a VM id has 1 to 128 characters of [A-Za-z0-9._:-]");
  }
  if (hello.vcpu_count < 1 || hello.vcpu_count > TSC_KVM_MAX_VCPUS) {
    return absl::InvalidArgumentError(absl::StrCat("a VM of ", hello.vcpu_count, " vCPUs; 1 to ",
                                                   TSC_KVM_MAX_VCPUS, " can be registered"));
  }
  if ((hello.flags & ~kHelloFlags) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("HELLO has flags ", hello.flags, ", of which this agent knows ", kHelloFlags));
  }
  if (absl::Status status = CheckMayRegister(connection, vm_id); !status.ok()) return status;
  connection.vm_id = vm_id;
  connection.vcpu_count = hello.vcpu_count;
  connection.flags = hello.flags;
  connection.instance.assign(reinterpret_cast<const char*>(hello.instance), sizeof(hello.instance));
  connection.vm = std::move(fds.front());
  return absl::OkStatus();
}

absl::Status VmmListener::OnVcpus(Connection& connection, const void* message, size_t size,
                                  std::vector<UniqueFd> fds) {
  tsc_wire_vcpus vcpus;
  if (size != sizeof(vcpus))
    return absl::InvalidArgumentError("a VCPUS message of the wrong length");
  std::memcpy(&vcpus, message, sizeof(vcpus));
  if (vcpus.count == 0 || vcpus.count > TSC_WIRE_FDS_PER_MESSAGE || vcpus.count != fds.size() ||
      connection.ids.size() + vcpus.count > connection.vcpu_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("a VCPUS message of ", vcpus.count, " vCPUs with ", fds.size(),
                     " descriptors, after ", connection.ids.size(), " of ", connection.vcpu_count));
  }
  for (uint32_t i = 0; i < vcpus.count; ++i) {
    const uint32_t id = vcpus.ids[i];
    if (id > TSC_KVM_MAX_VCPU_ID || (!connection.ids.empty() && id <= connection.ids.back())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "vCPU id ", id, " is above ", TSC_KVM_MAX_VCPU_ID, " or not above the one before it"));
    }
    connection.ids.push_back(id);
    connection.vcpus.push_back(std::move(fds[i]));
  }
  return absl::OkStatus();
}

absl::Status VmmListener::CheckMayRegister(const Connection& connection,
                                           const std::string& vm_id) const {
  if (!options_.may_register || connection.kind != registry::PortKind::kCooperative)
    return absl::OkStatus();
  return options_.may_register(connection.peer, vm_id);
}

absl::Status VmmListener::Register(Connection& connection) {
  // Anew: it is what counts, and others have come since its first message.
  if (absl::Status status = CheckMayRegister(connection, connection.vm_id); !status.ok())
    return status;
  if (absl::Status status = check_.Check(connection.vm, connection.ids, connection.vcpus);
      !status.ok())
    return status;
  registry::VmIdentity identity;
  identity.vm_id = connection.vm_id;
  identity.vcpu_ids = connection.ids;
  identity.vmm_pid = connection.peer.pid;
  identity.vmm_uid = connection.peer.uid;
  identity.port = connection.kind;
  identity.registered_at_ns = RealtimeNs();
  identity.awaits_handoff = (connection.flags & TSC_WIRE_AWAITS_HANDOFF) != 0;
  identity.vmm_instance = connection.instance;
  identity.running_at_registration = (connection.flags & TSC_WIRE_IS_RUNNING) != 0;

  const int fd = connection.socket.get();
  std::vector<UniqueFd> descriptors = std::move(connection.vcpus);
  descriptors.push_back(std::move(connection.vm));
  // The port gets a descriptor of its own for the connection; this one stays the key of the epoll
  // set, so that it cannot be closed, and its number used again, while it is watched.
  UniqueFd port_socket(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!port_socket.valid()) return absl::ResourceExhaustedError(kOutOfDescriptors);
  auto vm = std::make_shared<registry::RegisteredVm>(
      std::move(identity),
      std::make_unique<CooperativePort>(connection.vm_id, connection.ids, std::move(port_socket)),
      std::move(descriptors));
  vm->set_run_state(vm->identity().running_at_registration ? registry::RunState::kRunning
                                                           : registry::RunState::kPaused);
  absl::Status added = registry_.Add(vm, [fd] {
    const tsc_wire_header welcome = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_WELCOME, 0};
    Failpoint("listener.welcome.sending");
    if (send(fd, &welcome, sizeof(welcome), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(welcome))
      return absl::OkStatus();
    return absl::UnavailableError("the VMM ended its registration");
  });
  if (!added.ok()) return added;
  // From here on only the port reads; this thread waits for the connection's end.
  epoll_event event = {.events = EPOLLRDHUP, .data = {.fd = fd}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
  connection.registered = vm;
  --handshakes_;
  if (options_.on_event) options_.on_event(connection.vm_id, connection.peer.pid, "registered");
  Failpoint("listener.welcome.sent");
  GiveFirstPermit(vm);
  Failpoint("listener.permit.sent");
  return absl::OkStatus();
}

void VmmListener::GiveFirstPermit(const std::shared_ptr<registry::RegisteredVm>& vm) {
  if (options_.on_registered) {
    options_.on_registered(vm);
  } else if (vm->identity().awaits_handoff) {
    vm->SendPermit({.granted = false, .epoch = 0, .reason = "it awaits a handoff"});
  } else {
    vm->SendPermit({.granted = true, .epoch = 0, .reason = ""});
  }
}

}  // namespace tsc_handoff::port
