#include "tests/service/wire_peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/service/pair.h"

namespace tsc_handoff {

WirePeer::WirePeer(const std::string& vmm_socket)
    : socket_(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, vmm_socket.c_str(), vmm_socket.size());
  EXPECT_EQ(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0)
      << vmm_socket << ": " << strerror(errno);
}

UniqueFd WirePeer::OpenNull() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

tsc_wire_header WirePeer::Header(uint16_t type, uint64_t request_id) {
  return {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, type, request_id};
}

tsc_wire_hello WirePeer::Hello(const std::string& vm_id, uint32_t vcpu_count) {
  tsc_wire_hello hello = {};
  hello.header = Header(TSC_WIRE_HELLO);
  hello.vcpu_count = vcpu_count;
  std::memcpy(hello.vm_id, vm_id.data(), std::min(vm_id.size(), sizeof(hello.vm_id)));
  return hello;
}

tsc_wire_vcpus WirePeer::Vcpus(const std::vector<uint32_t>& ids) {
  tsc_wire_vcpus vcpus = {};
  vcpus.header = Header(TSC_WIRE_VCPUS);
  vcpus.count = static_cast<uint32_t>(ids.size());
  for (size_t i = 0; i < ids.size() && i < TSC_WIRE_FDS_PER_MESSAGE; ++i) vcpus.ids[i] = ids[i];
  return vcpus;
}

bool WirePeer::SendBytes(const void* bytes, size_t size, const std::vector<int>& fds) {
  // Room for one descriptor more than the protocol allows.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (TSC_WIRE_FDS_PER_MESSAGE + 1))] = {};
  iovec io = {const_cast<void*>(bytes), size};
  msghdr header = {};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  return sendmsg(socket_.get(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

std::string WirePeer::Register(const std::string& vm_id, const std::vector<uint32_t>& ids,
                               uint32_t flags) {
  tsc_wire_hello hello = Hello(vm_id, static_cast<uint32_t>(ids.size()));
  hello.flags = flags;
  Send(hello, 1);
  Send(Vcpus(ids), ids.size());
  const std::optional<Bytes> answer = Receive();
  if (!answer.has_value()) return "no answer";
  tsc_wire_refused refused = {};
  std::memcpy(&refused, answer->data(), std::min(answer->size(), sizeof(refused)));
  if (refused.header.type != TSC_WIRE_WELCOME) return refused.text;
  const std::optional<Bytes> permit = Receive();
  if (!permit.has_value() || permit->size() != sizeof(first_permit_)) return "no PERMIT";
  std::memcpy(&first_permit_, permit->data(), sizeof(first_permit_));
  return first_permit_.header.type == TSC_WIRE_PERMIT ? "" : "no PERMIT";
}

std::optional<WirePeer::Bytes> WirePeer::Receive() {
  pollfd readable = {socket_.get(), POLLIN, 0};
  if (poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) <= 0)
    return std::nullopt;
  Bytes bytes(TSC_WIRE_MAX_REQUEST(TSC_KVM_MAX_VCPUS));
  const ssize_t size = recv(socket_.get(), bytes.data(), bytes.size(), 0);
  if (size <= 0) return std::nullopt;
  bytes.resize(static_cast<size_t>(size));
  return bytes;
}

std::string WirePeer::AwaitRefusal() {
  const std::optional<Bytes> answer = Receive();
  tsc_wire_refused refused = {};
  if (!answer.has_value() || answer->size() != sizeof(refused)) return "(no REFUSED came)";
  std::memcpy(&refused, answer->data(), sizeof(refused));
  if (refused.header.type != TSC_WIRE_REFUSED)
    return absl::StrCat("(message of type ", refused.header.type, ")");
  if (!AwaitEnd()) return "(the connection did not end)";
  return refused.text;
}

bool WirePeer::AwaitEnd() {
  char ignored[64];
  while (true) {
    pollfd readable = {socket_.get(), POLLIN, 0};
    if (poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) <= 0)
      return false;
    const ssize_t size = recv(socket_.get(), ignored, sizeof(ignored), 0);
    if (size == 0 || (size < 0 && errno == ECONNRESET)) return true;
    if (size < 0) return false;
  }
}

WirePeer::Bytes WirePeer::ReadDone(uint64_t request_id, const std::vector<uint32_t>& ids) {
  tsc_wire_read_done done = {};
  done.header = Header(TSC_WIRE_READ_DONE, request_id);
  done.vcpu_count = static_cast<uint32_t>(ids.size());
  Bytes bytes(sizeof(done) + ids.size() * sizeof(tsc_vcpu_state));
  std::memcpy(bytes.data(), &done, sizeof(done));
  for (size_t i = 0; i < ids.size(); ++i) {
    tsc_vcpu_state state = {};
    state.vcpu_id = ids[i];
    state.tsc_khz = 2'100'000;
    std::memcpy(bytes.data() + sizeof(done) + i * sizeof(state), &state, sizeof(state));
  }
  return bytes;
}

}  // namespace tsc_handoff
