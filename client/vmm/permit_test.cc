// The permit to run as a session keeps it over connections that come and go: what HELLO says, what
// the agent's words do, and which words are none. The agent is played by hand. What the permit does
// beside operations on real vCPUs is in tests/contract/contract_permit.cc.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/vmm/tsc_vmm.h"
#include "client/vmm/tsc_wire.h"

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int kPatienceMs = 20'000;

tsc_wire_header Header(uint16_t type, uint64_t request_id = 0) {
  return {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, type, request_id};
}

tsc_wire_permit Word(bool granted, const std::string& text = "") {
  tsc_wire_permit word = {};
  word.header = Header(TSC_WIRE_PERMIT);
  word.granted = granted ? 1 : 0;
  word.epoch = 3;
  std::memcpy(word.text, text.data(), std::min(text.size(), sizeof(word.text)));
  return word;
}

// The agent's end of one connection.
class Connection {
 public:
  explicit Connection(int socket) : socket_(socket) {}
  Connection(Connection&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  Connection& operator=(Connection&&) = delete;
  ~Connection() { End(); }

  template <typename T>
  bool Send(const T& message) {
    return send(socket_, &message, sizeof(message), MSG_NOSIGNAL) == sizeof(message);
  }
  // The next message as far as it is a T; false at the end of the connection. Descriptors are
  // closed by not taking them.
  template <typename T>
  bool Receive(T& message) {
    pollfd readable = {socket_, POLLIN, 0};
    if (poll(&readable, 1, kPatienceMs) <= 0) return false;
    std::memset(&message, 0, sizeof(message));
    return recv(socket_, &message, sizeof(message), 0) > 0;
  }
  bool AwaitEnd() {
    char ignored[4096];
    while (Receive(ignored)) {
    }
    return errno == ECONNRESET || recv(socket_, ignored, sizeof(ignored), MSG_DONTWAIT) == 0;
  }
  // Takes a registration in and welcomes it; what HELLO said.
  tsc_wire_hello Welcome() {
    tsc_wire_hello hello;
    tsc_wire_vcpus vcpus;
    EXPECT_TRUE(Receive(hello));
    EXPECT_EQ(hello.header.type, TSC_WIRE_HELLO);
    EXPECT_TRUE(Receive(vcpus));
    EXPECT_TRUE(Send(Header(TSC_WIRE_WELCOME)));
    return hello;
  }
  // The outcome of a READ with `deadline_ns`.
  uint32_t Read(uint32_t flags, uint64_t deadline_ns = INT64_MAX) {
    tsc_wire_request request = {};
    request.header = Header(TSC_WIRE_READ, ++request_id_);
    request.deadline_ns = deadline_ns;
    request.flags = flags;
    tsc_wire_read_done done;
    if (!Send(request) || !Receive(done)) return UINT32_MAX;
    EXPECT_EQ(done.header.request_id, request_id_);
    return done.fault.outcome;
  }
  bool IsRunning() {
    tsc_wire_request request = {};
    request.header = Header(TSC_WIRE_STATUS, ++request_id_);
    tsc_wire_status_done done;
    EXPECT_TRUE(Send(request));
    EXPECT_TRUE(Receive(done));
    EXPECT_EQ(done.header.type, TSC_WIRE_STATUS_DONE);
    return done.running != 0;
  }
  void End() {
    if (socket_ >= 0) close(std::exchange(socket_, -1));
  }

 private:
  int socket_;
  uint64_t request_id_ = 0;
};

// A kernel whose ioctls all fail: an operation runs and changes nothing.
int FailingIoctl(void* /*ctx*/, int /*fd*/, unsigned long /*request*/, void* /*argument*/) {
  return -EPERM;
}
uint64_t NoTsc(void* /*ctx*/) { return 1; }

class PermitTest : public testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/tsc-permit.XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    path_ = directory_ + "/vmm.sock";
    Listen();
    vm_fd_ = open("/dev/null", O_RDWR | O_CLOEXEC);
    vcpus_ = {{0, vm_fd_}, {3, vm_fd_}};
    config_.agent_socket = path_.c_str();
    config_.vm_id = "vm";
    config_.vm_fd = vm_fd_;
    config_.vcpus = vcpus_.data();
    config_.vcpu_count = static_cast<uint32_t>(vcpus_.size());
    config_.ops = &ops_;
    config_.user = this;
    config_.log = [](void* user, tsc_vmm_level level, const char* line) {
      auto& test = *static_cast<PermitTest*>(user);
      const std::lock_guard<std::mutex> lock(test.mutex_);
      if (level == TSC_VMM_ERROR) test.errors_ += line;
    };
    config_.on_permit = [](void* user, int granted, const char* why) {
      auto& test = *static_cast<PermitTest*>(user);
      EXPECT_EQ(tsc_vmm_may_run(test.session_.load(), nullptr), granted) << "it may be asked";
      const std::lock_guard<std::mutex> lock(test.mutex_);
      test.words_.emplace_back(granted ? "yes" : why);
    };
  }

  void TearDown() override {
    if (session_ != nullptr) tsc_vmm_close(session_);
    StopListening();
    close(vm_fd_);
    rmdir(directory_.c_str());
  }

  void Listen() {
    listening_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size());
    ASSERT_EQ(bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(listen(listening_, 8), 0);
  }
  void StopListening() {
    if (listening_ >= 0) close(std::exchange(listening_, -1));
    unlink(path_.c_str());
  }

  void Open() {
    tsc_vmm* session = nullptr;
    char why[TSC_VMM_ERROR_SIZE] = "";
    ASSERT_EQ(tsc_vmm_open(&config_, &session, why), 0) << why;
    session_ = session;
  }
  // The VMM's next connection.
  Connection Accept() {
    pollfd readable = {listening_, POLLIN, 0};
    EXPECT_EQ(poll(&readable, 1, kPatienceMs), 1);
    return Connection(accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC));
  }
  // Opens the session and gives it a permit.
  Connection OpenWithPermit() {
    Open();
    Connection agent = Accept();
    agent.Welcome();
    EXPECT_TRUE(agent.Send(Word(true)));
    EXPECT_EQ(AwaitRegistered(), "");
    return agent;
  }

  std::string Resume() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_resume(session_, why) == 0 ? "" : why;
  }
  void Pause() { tsc_vmm_pause(session_); }
  std::string WhyNot() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_may_run(session_, why) == 1 ? "" : why;
  }
  std::string AwaitPermit() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_wait_permit(session_, kPatienceMs, why) == 0 ? "" : why;
  }
  std::string AwaitRegistered() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_wait_registered(session_, kPatienceMs, why) == 0 ? "" : why;
  }
  std::vector<std::string> Words() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return words_;
  }
  std::string Errors() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return errors_;
  }
  static bool Await(const std::function<bool()>& condition) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      std::this_thread::yield();
    }
    return true;
  }

  const tsc_kvm_ops ops_ = {FailingIoctl, NoTsc, nullptr};
  std::string directory_;
  std::string path_;
  int listening_ = -1;
  int vm_fd_ = -1;
  std::vector<tsc_kvm_vcpu> vcpus_;
  tsc_vmm_config config_ = TSC_VMM_CONFIG_INIT;
  std::atomic<tsc_vmm*> session_{nullptr};
  std::mutex mutex_;
  std::vector<std::string> words_;  // guarded by mutex_
  std::string errors_;              // guarded by mutex_
};

TEST_F(PermitTest, HelloSaysWhoItIsAndHowItStands) {
  config_.awaits_handoff = 1;
  Open();
  Connection first = Accept();
  const tsc_wire_hello before = first.Welcome();
  EXPECT_EQ(before.flags, uint32_t{TSC_WIRE_AWAITS_HANDOFF});
  EXPECT_STREQ(before.vm_id, "vm");
  EXPECT_EQ(before.vcpu_count, 2u);
  EXPECT_TRUE(first.Send(Word(true)));
  EXPECT_EQ(AwaitPermit(), "");
  EXPECT_EQ(Resume(), "");
  first.End();
  Connection second = Accept();
  const tsc_wire_hello after = second.Welcome();
  EXPECT_EQ(after.flags, uint32_t{TSC_WIRE_AWAITS_HANDOFF | TSC_WIRE_IS_RUNNING});
  EXPECT_EQ(std::memcmp(after.instance, before.instance, sizeof(after.instance)), 0);
  tsc_vmm_close(session_.exchange(nullptr));
  Open();
  const tsc_wire_hello another = Accept().Welcome();
  EXPECT_EQ(another.flags, uint32_t{TSC_WIRE_AWAITS_HANDOFF});
  EXPECT_NE(std::memcmp(another.instance, before.instance, sizeof(another.instance)), 0);
}

TEST_F(PermitTest, OutlivesAgents) {
  OpenWithPermit().End();
  StopListening();
  EXPECT_EQ(Resume(), "");
  Pause();
  EXPECT_EQ(Resume(), "");
}

TEST_F(PermitTest, DenialOfARunningVmIsToldAndChangesNothingElse) {
  Connection agent = OpenWithPermit();
  EXPECT_EQ(Resume(), "");
  EXPECT_TRUE(agent.Send(Word(false, "it was released to another host by handoff h-1")));
  EXPECT_TRUE(Await([&] { return Words().size() == 2; }));
  EXPECT_THAT(Words(), ElementsAre("yes", "it was released to another host by handoff h-1"));
  EXPECT_TRUE(Await([&] { return !Errors().empty(); }));
  EXPECT_THAT(Errors(), HasSubstr("VM vm runs, and may not run here"));
  EXPECT_THAT(Errors(), HasSubstr("epoch 3"));
  EXPECT_TRUE(agent.IsRunning()) << "the library cannot stop it, and does not say that it has";
  EXPECT_EQ(agent.Read(TSC_WIRE_HOLD), uint32_t{TSC_KVM_RUNNING});
  Pause();
  EXPECT_FALSE(agent.IsRunning());
  EXPECT_THAT(Resume(), HasSubstr("released to another host"));
}

TEST_F(PermitTest, DenialAtTheNextRegistrationIsToldToo) {
  OpenWithPermit().End();
  Connection agent = Accept();
  agent.Welcome();
  EXPECT_TRUE(agent.Send(Word(false, "no")));
  EXPECT_EQ(AwaitRegistered(), "");
  EXPECT_EQ(WhyNot(), "the VM may not run here: no");
  EXPECT_TRUE(Await([&] { return Words().size() == 2; }));
  EXPECT_THAT(Words(), ElementsAre("yes", "no"));
  EXPECT_THAT(Errors(), IsEmpty());
}

// HELLO has said that the VM is paused, so it must not begin to run before the agent has answered.
TEST_F(PermitTest, ResumeWaitsForTheWordDuringARegistration) {
  OpenWithPermit().End();
  Connection agent = Accept();
  agent.Welcome();
  std::string resumed;
  std::atomic<bool> done{false};
  std::thread resume([&] {
    resumed = Resume();
    done = true;
  });
  EXPECT_FALSE(agent.IsRunning());
  EXPECT_FALSE(done);
  EXPECT_TRUE(agent.Send(Word(false, "it has left")));
  resume.join();
  EXPECT_THAT(resumed, HasSubstr("it has left"));
}

TEST_F(PermitTest, AgentThatOwesItsWordIsNotWaitedForLong) {
  OpenWithPermit().End();
  Connection agent = Accept();
  agent.Welcome();
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(Resume(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(10));
}

TEST_F(PermitTest, RunningVmThatIsToldNothingKeepsIt) {
  Connection first = OpenWithPermit();
  EXPECT_EQ(Resume(), "");
  first.End();
  Connection second = Accept();
  second.Welcome();
  EXPECT_EQ(AwaitRegistered(), "");
  Pause();
  EXPECT_EQ(Resume(), "");
}

TEST_F(PermitTest, RequestThatComesTooLateTakesNothing) {
  Connection agent = OpenWithPermit();
  EXPECT_EQ(agent.Read(TSC_WIRE_HOLD, 1), uint32_t{TSC_KVM_CANCELLED});
  EXPECT_EQ(WhyNot(), "");
  EXPECT_EQ(agent.Read(TSC_WIRE_HOLD), uint32_t{TSC_KVM_FAILED});
  EXPECT_THAT(WhyNot(), Not(IsEmpty()));
}

TEST_F(PermitTest, LongestReasonIsCutAndEnded) {
  Connection agent = OpenWithPermit();
  tsc_wire_permit word = Word(false, std::string(sizeof(word.text), 'x'));
  EXPECT_TRUE(agent.Send(word));
  EXPECT_TRUE(Await([&] { return Words().size() == 2; }));
  EXPECT_EQ(Words().back(), std::string(sizeof(word.text) - 1, 'x'));
  EXPECT_THAT(WhyNot(), HasSubstr("the VM may not run here: xxx"));
}

TEST_F(PermitTest, MessagesThatAreNoneEndTheConnectionAndLeaveThePermit) {
  tsc_wire_permit neither = Word(false);
  neither.granted = 2;
  struct {
    tsc_wire_permit word;
    char more;
  } longer = {Word(false), 0};
  tsc_wire_request read = {};
  read.header = Header(TSC_WIRE_READ, 1);
  read.deadline_ns = INT64_MAX;
  read.flags = 2;
  tsc_wire_request status = {};
  status.header = Header(TSC_WIRE_STATUS, 1);
  status.flags = TSC_WIRE_HOLD;
  tsc_wire_write write = {};
  write.header = Header(TSC_WIRE_WRITE, 1);
  write.deadline_ns = INT64_MAX;
  write.target.host_tsc_khz = 1;
  write.flags = 2;
  tsc_wire_permit old = Word(false);
  old.header.version = 1;
  const std::function<bool(Connection&)> sends[] = {
      [&](Connection& agent) { return agent.Send(neither); },
      [&](Connection& agent) { return agent.Send(longer); },
      [&](Connection& agent) { return agent.Send(Header(TSC_WIRE_PERMIT)); },
      [&](Connection& agent) { return agent.Send(read); },
      [&](Connection& agent) { return agent.Send(status); },
      [&](Connection& agent) { return agent.Send(write); },
      [&](Connection& agent) { return agent.Send(old); },
  };
  Connection first = OpenWithPermit();
  EXPECT_TRUE(sends[0](first));
  EXPECT_TRUE(first.AwaitEnd());
  for (const auto& send : sends) {
    Connection agent = Accept();
    agent.Welcome();
    EXPECT_TRUE(send(agent));
    EXPECT_TRUE(agent.AwaitEnd());
    EXPECT_EQ(WhyNot(), "");
  }
}

TEST_F(PermitTest, AgentOfAnotherVersionIsQuoted) {
  Open();
  Connection agent = Accept();
  tsc_wire_refused refused = {};
  refused.header = {TSC_WIRE_MAGIC, 1, TSC_WIRE_REFUSED, 0};
  std::strcpy(refused.text, "the VMM speaks version 2 of the protocol, this agent 1");
  EXPECT_TRUE(agent.Send(refused));
  EXPECT_THAT(AwaitRegistered(), HasSubstr("the VMM speaks version 2"));
  EXPECT_THAT(WhyNot(), HasSubstr("the VMM speaks version 2"));
}

// The promise that a handoff stands on: after the answer to a READ with HOLD the VM does not run,
// however fast the VMM resumes and pauses.
TEST_F(PermitTest, NoResumeComesBetweenACaptureAndItsPermit) {
  Connection agent = OpenWithPermit();
  std::atomic<bool> stop{false};
  std::atomic<bool> runs{false};
  std::thread vmm([&] {
    char why[TSC_VMM_ERROR_SIZE];
    while (!stop) {
      if (tsc_vmm_may_run(session_, nullptr) == 0) {
        std::this_thread::yield();
        continue;
      }
      if (tsc_vmm_resume(session_, why) != 0) continue;
      runs = true;
      runs = false;
      tsc_vmm_pause(session_);
    }
  });
  int captured = 0;
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const uint32_t outcome = agent.Read(TSC_WIRE_HOLD);
    if (outcome == TSC_KVM_RUNNING) {
      ++refused;
      continue;
    }
    ASSERT_EQ(outcome, uint32_t{TSC_KVM_FAILED}) << "round " << i;
    ++captured;
    EXPECT_FALSE(runs);
    EXPECT_FALSE(agent.IsRunning());
    EXPECT_FALSE(runs);
    EXPECT_TRUE(agent.Send(Word(true)));
  }
  stop = true;
  vmm.join();
  EXPECT_GT(captured, 0);
  RecordProperty("refused", refused);
}

}  // namespace
