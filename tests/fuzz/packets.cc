#include "tests/fuzz/packets.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "tests/fuzz/bytes.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

constexpr size_t kMostDescriptors = 8;
constexpr int kPatienceMs = 20'000;

}  // namespace

std::vector<Packet> ReadPackets(const uint8_t* data, size_t size, size_t most) {
  std::vector<Packet> packets;
  Bytes bytes(data, size);
  while (!bytes.empty() && packets.size() < most) {
    Packet packet;
    packet.descriptors = bytes.Take<uint8_t>() % (kMostDescriptors + 1);
    packet.bytes = bytes.TakeSized();
    packets.push_back(std::move(packet));
  }
  return packets;
}

std::string WritePackets(const std::vector<Packet>& packets) {
  std::string out;
  for (const Packet& packet : packets)
    out += std::string(1, static_cast<char>(packet.descriptors)) + Sized(packet.bytes);
  return out;
}

Pair::Pair() {
  int ends[2];
  FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  mine = UniqueFd(ends[0]);
  other = UniqueFd(ends[1]);
}

bool Send(int socket, const Packet& packet) {
  static const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  iovec block = {const_cast<char*>(packet.bytes.data()), packet.bytes.size()};
  msghdr message = {};
  message.msg_iov = &block;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))] = {};
  if (packet.descriptors > 0) {
    const size_t size = packet.descriptors * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(size);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    for (size_t i = 0; i < packet.descriptors; ++i)
      std::memcpy(CMSG_DATA(header) + i * sizeof(int), &file, sizeof(int));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

void AwaitEnd(int socket) {
  char buffer[256];
  pollfd wait = {socket, POLLIN, 0};
  while (true) {
    FUZZ_CHECK(poll(&wait, 1, kPatienceMs) > 0);  // else the other end hangs
    if (recv(socket, buffer, sizeof(buffer), MSG_DONTWAIT) <= 0) return;
  }
}

}  // namespace tsc_handoff::fuzz
