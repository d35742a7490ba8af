// What a registration tells the agent, and the first permit. Wrong registrations, and VMMs that
// come and go, are in tests/service.
#include "server/port/vmm_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "client/vmm/tsc_vmm.h"

namespace tsc_handoff::port {
namespace {

using testing::HasSubstr;

constexpr int kPatienceMs = 20'000;

class AnyDescriptors final : public DescriptorCheck {
 public:
  absl::Status Check(const UniqueFd& /*vm*/, const std::vector<uint32_t>& /*ids*/,
                     const std::vector<UniqueFd>& /*vcpus*/) override {
    return absl::OkStatus();
  }
};

class VmmListenerTest : public testing::Test {
 protected:
  void TearDown() override {
    for (tsc_vmm* session : sessions_) tsc_vmm_close(session);
    if (listener_ != nullptr) listener_->Stop();
  }

  void Start(VmmListener::Options options) {
    listener_ = std::make_unique<VmmListener>(std::move(options), registry_, check_);
    const absl::Status started = listener_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }

  // A VMM that has been told whether its VM may run.
  tsc_vmm* Register(const std::string& vm_id, bool awaits_handoff) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const tsc_kvm_vcpu vcpu = {0, null_.get()};
    tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
    config.vm_id = vm_id.c_str();
    config.vm_fd = null_.get();
    config.vcpus = &vcpu;
    config.vcpu_count = 1;
    config.awaits_handoff = awaits_handoff ? 1 : 0;
    tsc_vmm* session = nullptr;
    char why[TSC_VMM_ERROR_SIZE] = "";
    EXPECT_EQ(tsc_vmm_open_socket(&config, ends[1], &session, why), 0) << why;
    sessions_.push_back(session);
    listener_->Adopt(UniqueFd(ends[0]));
    EXPECT_EQ(tsc_vmm_wait_registered(session, kPatienceMs, why), 0) << why;
    return session;
  }

  const UniqueFd null_{open("/dev/null", O_RDWR | O_CLOEXEC)};
  registry::VmRegistry registry_{8};
  AnyDescriptors check_;
  std::unique_ptr<VmmListener> listener_;
  std::vector<tsc_vmm*> sessions_;
};

TEST_F(VmmListenerTest, GrantsByItselfUnlessAHandoffIsAwaited) {
  ASSERT_NO_FATAL_FAILURE(Start({}));
  char why[TSC_VMM_ERROR_SIZE] = "";
  EXPECT_EQ(tsc_vmm_may_run(Register("here", false), why), 1) << why;
  EXPECT_EQ(tsc_vmm_may_run(Register("destination", true), why), 0);
  EXPECT_THAT(why, HasSubstr("it awaits a handoff"));
}

TEST_F(VmmListenerTest, LeavesTheFirstPermitToWhoeverAsksForIt) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<registry::VmIdentity> told;
  VmmListener::Options options;
  options.on_registered = [&](const std::shared_ptr<registry::RegisteredVm>& vm) {
    const auto found = registry_.Find(vm->identity().vm_id);
    EXPECT_TRUE(found.ok()) << "the registry has it";
    vm->SendPermit({.granted = false, .epoch = 5, .reason = "because"});
    const std::lock_guard<std::mutex> lock(mutex);
    told.push_back(vm->identity());
    changed.notify_all();
  };
  ASSERT_NO_FATAL_FAILURE(Start(std::move(options)));
  char why[TSC_VMM_ERROR_SIZE] = "";
  EXPECT_EQ(tsc_vmm_may_run(Register("one", true), why), 0);
  EXPECT_STREQ(why, "the VM may not run here: because");
  Register("two", false);
  // A VMM is welcome before the agent is told.
  std::unique_lock<std::mutex> lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return told.size() == 2; }));
  EXPECT_TRUE(told[0].awaits_handoff);
  EXPECT_FALSE(told[1].awaits_handoff);
  EXPECT_EQ(told[0].vmm_instance.size(), 16u);
  EXPECT_NE(told[0].vmm_instance, told[1].vmm_instance);
  EXPECT_FALSE(told[0].running_at_registration);
  const auto vm = registry_.Find("one");
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ((*vm)->run_state(), registry::RunState::kPaused);
}

}  // namespace
}  // namespace tsc_handoff::port
