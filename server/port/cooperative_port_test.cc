// The port's end of the VMM protocol where the permit is concerned: what goes over the wire, beside
// a call in progress, and to a VMM that does not read. What calls do is in tests/contract.
#include "server/port/cooperative_port.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/vmm/tsc_wire.h"
#include "server/base/error.h"

namespace tsc_handoff::port {
namespace {

constexpr char kVmId[] = "vm";
constexpr int kPatienceMs = 20'000;

class CooperativePortTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    vmm_ = UniqueFd(ends[1]);
    port_ = std::make_unique<CooperativePort>(kVmId, std::vector<uint32_t>{0}, UniqueFd(ends[0]));
  }

  // The VMM's next message; empty at the connection's end or when none comes.
  std::vector<char> Receive() {
    std::vector<char> bytes(TSC_WIRE_MAX_REQUEST(1));
    pollfd readable = {vmm_.get(), POLLIN, 0};
    if (poll(&readable, 1, kPatienceMs) <= 0) return {};
    const ssize_t size = recv(vmm_.get(), bytes.data(), bytes.size(), 0);
    bytes.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return bytes;
  }

  template <typename T>
  static T As(const std::vector<char>& bytes) {
    T message = {};
    EXPECT_EQ(bytes.size(), sizeof(message));
    std::memcpy(&message, bytes.data(), std::min(bytes.size(), sizeof(message)));
    return message;
  }

  void Answer(const tsc_wire_header& request) {
    struct {
      tsc_wire_read_done done;
      tsc_vcpu_state state;
    } answer = {};
    answer.done.header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_READ_DONE, request.request_id};
    answer.done.vcpu_count = 1;
    EXPECT_EQ(send(vmm_.get(), &answer, sizeof(answer), MSG_NOSIGNAL), ssize_t{sizeof(answer)});
  }

  UniqueFd vmm_;
  std::unique_ptr<CooperativePort> port_;
};

TEST_F(CooperativePortTest, PermitIsOneMessage) {
  port_->SendPermit({.granted = true, .epoch = 12, .reason = ""});
  const auto granted = As<tsc_wire_permit>(Receive());
  EXPECT_EQ(granted.header.magic, TSC_WIRE_MAGIC);
  EXPECT_EQ(granted.header.version, TSC_WIRE_VERSION);
  EXPECT_EQ(granted.header.type, TSC_WIRE_PERMIT);
  EXPECT_EQ(granted.header.request_id, 0u);
  EXPECT_EQ(granted.granted, 1u);
  EXPECT_EQ(granted.epoch, 12u);
  EXPECT_STREQ(granted.text, "");
  port_->SendPermit({.granted = false, .epoch = 13, .reason = std::string(1000, 'x')});
  const auto denied = As<tsc_wire_permit>(Receive());
  EXPECT_EQ(denied.granted, 0u);
  EXPECT_EQ(denied.epoch, 13u);
  EXPECT_EQ(std::string(denied.text), std::string(TSC_WIRE_TEXT_SIZE - 1, 'x'));
}

TEST_F(CooperativePortTest, HoldIsAFlagOfTheRequest) {
  std::thread vmm([&] {
    for (const uint32_t flags : {uint32_t{0}, uint32_t{TSC_WIRE_HOLD}}) {
      const auto read = As<tsc_wire_request>(Receive());
      EXPECT_EQ(read.header.type, TSC_WIRE_READ);
      EXPECT_EQ(read.flags, flags);
      Answer(read.header);
    }
    for (const uint32_t flags : {uint32_t{0}, uint32_t{TSC_WIRE_HOLD}}) {
      const auto write = As<tsc_wire_write>(Receive());
      EXPECT_EQ(write.header.type, TSC_WIRE_WRITE);
      EXPECT_EQ(write.flags, flags);
      tsc_wire_write_done done = {};
      done.header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, TSC_WIRE_WRITE_DONE,
                     write.header.request_id};
      done.fault.outcome = TSC_KVM_RUNNING;
      EXPECT_EQ(send(vmm_.get(), &done, sizeof(done), MSG_NOSIGNAL), ssize_t{sizeof(done)});
    }
    const auto status = As<tsc_wire_request>(Receive());
    EXPECT_EQ(status.flags, 0u);
    vmm_ = UniqueFd();
  });
  EXPECT_TRUE(port_->ReadAll(Hold::kNo).ok());
  EXPECT_TRUE(port_->ReadAll(Hold::kYes).ok());
  EXPECT_EQ(ReasonOf(port_->WriteAll({}, Hold::kNo).status()), Reason::kVmRunning);
  EXPECT_EQ(ReasonOf(port_->WriteAll({}, Hold::kYes).status()), Reason::kVmRunning);
  EXPECT_EQ(ReasonOf(port_->IsPaused().status()), Reason::kVmmGone);
  vmm.join();
}

TEST_F(CooperativePortTest, PermitsGoBesideACallInProgress) {
  constexpr int kCalls = 500;
  constexpr uint64_t kPermits = 2000;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> permits{0};
  std::thread vmm([&] {
    while (permits < kPermits || !stop) {
      const std::vector<char> bytes = Receive();
      if (bytes.size() == sizeof(tsc_wire_permit)) {
        EXPECT_EQ(As<tsc_wire_permit>(bytes).epoch, ++permits) << "in order";
      } else if (bytes.size() == sizeof(tsc_wire_request)) {
        const auto request = As<tsc_wire_request>(bytes);
        if (request.header.type == TSC_WIRE_STATUS) break;  // the last
        Answer(request.header);
      } else {
        ADD_FAILURE() << "a message of " << bytes.size() << " bytes";
        break;
      }
    }
    vmm_ = UniqueFd();
  });
  std::thread agent([&] {
    for (uint64_t sent = 0; sent < kPermits; ++sent) {
      // Few at a time, since a VMM that is slow to read is disconnected.
      while (sent > permits + 20 && !HasFailure()) std::this_thread::yield();
      port_->SendPermit({.granted = true, .epoch = sent + 1, .reason = ""});
    }
  });
  for (int i = 0; i < kCalls; ++i) {
    const auto captured = port_->ReadAll(Hold::kYes);
    EXPECT_TRUE(captured.ok()) << captured.status();
  }
  agent.join();
  stop = true;
  EXPECT_FALSE(port_->IsPaused().ok());
  vmm.join();
  EXPECT_EQ(permits, kPermits);
}

TEST_F(CooperativePortTest, VmmThatDoesNotTakePermitsIsDisconnected) {
  const auto started = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < 10'000; ++i)
    port_->SendPermit({.granted = true, .epoch = i, .reason = ""});
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(10)) << "never blocks";
  size_t taken = 0;
  while (!Receive().empty()) ++taken;
  EXPECT_GT(taken, 0u);
  EXPECT_LT(taken, 10'000u);
  EXPECT_EQ(ReasonOf(port_->ReadAll(Hold::kNo).status()), Reason::kVmmGone);
}

TEST_F(CooperativePortTest, PermitForAVmmThatHasGoneIsNoError) {
  vmm_ = UniqueFd();
  port_->SendPermit({.granted = true, .epoch = 0, .reason = ""});
  port_->SendPermit({.granted = false, .epoch = 0, .reason = "no"});
  EXPECT_EQ(ReasonOf(port_->ReadAll(Hold::kNo).status()), Reason::kVmmGone);
}

}  // namespace
}  // namespace tsc_handoff::port
