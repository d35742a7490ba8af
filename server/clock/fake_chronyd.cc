#include "server/clock/fake_chronyd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tsc_handoff::clock {

FakeChronyd::FakeChronyd(Script script, const std::string& address)
    : stop_(eventfd(0, EFD_CLOEXEC)), script_(std::move(script)) {
  if (address[0] == '/') {
    BindUnix(address);
  } else {
    BindUdp(address);
  }
  thread_ = std::thread([this] { Serve(); });
}

FakeChronyd::~FakeChronyd() {
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof(one));
  thread_.join();
  if (address_[0] == '/') unlink(address_.c_str());
}

void FakeChronyd::SetScript(Script script) {
  std::lock_guard<std::mutex> lock(mutex_);
  script_ = std::move(script);
}

std::vector<FakeChronyd::Client> FakeChronyd::clients() {
  std::lock_guard<std::mutex> lock(mutex_);
  return clients_;
}

void FakeChronyd::BindUdp(const std::string& address) {
  sockaddr_in ours = {};
  ours.sin_family = AF_INET;
  ours.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ours.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  socklen_t size = sizeof(ours);
  socket_ = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(socket_.get(), reinterpret_cast<sockaddr*>(&ours), size), 0) << strerror(errno);
  EXPECT_EQ(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&ours), &size), 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(ours.sin_port));
}

void FakeChronyd::BindUnix(const std::string& path) {
  sockaddr_un ours = {};
  ours.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof(ours.sun_path));
  std::memcpy(ours.sun_path, path.c_str(), path.size() + 1);
  socket_ = UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(socket_.get(), reinterpret_cast<sockaddr*>(&ours), sizeof(ours)), 0)
      << strerror(errno);
  address_ = path;
}

void FakeChronyd::Serve() {
  while (true) {
    pollfd watched[] = {{stop_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    if (poll(watched, 2, -1) < 0 && errno != EINTR) return;
    if (watched[0].revents != 0) return;
    if (watched[1].revents != 0) AnswerOne();
  }
}

void FakeChronyd::AnswerOne() {
  char request[1024];
  sockaddr_storage from = {};
  socklen_t size = sizeof(from);
  const ssize_t bytes = recvfrom(socket_.get(), request, sizeof(request), MSG_DONTWAIT,
                                 reinterpret_cast<sockaddr*>(&from), &size);
  if (bytes < 0) return;
  Client client;
  if (from.ss_family == AF_UNIX) {
    client.path = reinterpret_cast<const sockaddr_un*>(&from)->sun_path;
    struct stat info = {};
    EXPECT_EQ(stat(client.path.c_str(), &info), 0) << client.path << ": " << strerror(errno);
    client.mode = info.st_mode & 07777;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  clients_.push_back(std::move(client));
  for (const std::string& answer : script_(std::string(request, static_cast<size_t>(bytes)))) {
    // A client that has given up meanwhile is no fault of the test.
    (void)sendto(socket_.get(), answer.data(), answer.size(), MSG_DONTWAIT,
                 reinterpret_cast<const sockaddr*>(&from), size);
  }
}

}  // namespace tsc_handoff::clock
