// Attaching to a VMM whose only thread is in ioctl(KVM_RUN): the VM that it executes is refused and
// runs on, another VM of the same process is read and written, and the thread notices nothing but
// that KVM_RUN answers EINTR, which it may at any time. Run as root, on a machine with KVM.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "server/attach/attached_port.h"
#include "server/attach/target.h"
#include "server/attach/testing/call_job.h"
#include "server/attach/testing/child.h"
#include "server/attach/testing/inject.h"
#include "server/base/error.h"
#include "tests/attach/kvm_run_child.h"

namespace {

std::function<void(const std::string&)> at_failpoint;

}  // namespace

extern "C" void tsc_handoff_failpoint(const char* name) {
  if (at_failpoint) at_failpoint(name);
}

namespace tsc_handoff::attach {
namespace {

constexpr int kTimes = 50;
constexpr uint64_t kMoveTicks = 260'000;
// All but "running", at which it is chance whether a job is looked at.
const std::vector<std::string> kSteps = {"prepared",   "stopped",       "stub_written",
                                         "redirected", "mapped",        "payload_written",
                                         "told_to_go", "ran",           "removing",
                                         "unmapped",   "mask_restored", "registers_restored",
                                         "detached",   "stub_cleared"};

AttachedPort PortOf(const KvmRunChild& vmm, AttachedVm vm) {
  auto target = Target::Open(vmm.pid());
  if (!target.ok()) abort();
  AttachedPortOptions options;
  options.timeout = absl::Seconds(10);  // under emulation, on a busy machine
  return AttachedPort(*std::move(target), std::move(vm), options);
}

std::vector<std::byte> GetPid() {
  return CallJob({{.number = SYS_getpid, .args = {}, .relative = 0, .result = 0}});
}

using Kind = std::tuple<GuestCode, bool>;

class InKvmRun : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    ASSERT_EQ(vmm_.NotReady(), "");
    fingerprint_ = Fingerprint(vmm_.pid());
  }

  bool counts() const { return std::get<0>(GetParam()) == GuestCode::kCounts; }

  void WaitUntilItExecutes() {
    const uint32_t seen = vmm_.count();
    EXPECT_TRUE(WaitFor([&] { return counts() ? vmm_.count() != seen : vmm_.WaitsInKvmRun(); }))
        << "the guest stands still";
  }

  // That it executes as before, and the process is what it was.
  void CheckThatItGoesOn() {
    WaitUntilItExecutes();
    EXPECT_EQ(DifferenceFrom(vmm_.pid(), fingerprint_), "");
  }

  KvmRunChild vmm_{std::get<0>(GetParam()), std::get<1>(GetParam())};
  std::string fingerprint_;
};

TEST_P(InKvmRun, ItsVmIsRefusedAndRunsOn) {
  AttachedPort port = PortOf(vmm_, vmm_.running_vm());
  for (int i = 0; i < kTimes; ++i) {
    EXPECT_EQ(ReasonOf(port.ReadAll(port::Hold::kNo).status()), Reason::kVmRunning);
    WaitUntilItExecutes();
    port::ApplyOrder order = {};
    order.vcpus = {{0, 1'000'000, 0, 0, 0}};
    EXPECT_EQ(ReasonOf(port.WriteAll(order, port::Hold::kNo).status()), Reason::kVmRunning);
    WaitUntilItExecutes();
  }
  CheckThatItGoesOn();
  // One that waits is seen through /proc; to look at one on a CPU it is stopped for an instant.
  if (!counts()) {
    EXPECT_EQ(vmm_.interruptions(), 0u);
  }
  EXPECT_EQ(vmm_.Finish(), "");
}

TEST_P(InKvmRun, AnInjectionIsAnEintrAndNothingElse) {
  for (int i = 0; i < kTimes; ++i) {
    const uint64_t before = vmm_.interruptions();
    WaitUntilItExecutes();
    auto result = Inject(vmm_.pid(), vmm_.pid(), GetPid());
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(ResultOf(result->job, 0), vmm_.pid());
    if (counts()) continue;
    ASSERT_TRUE(WaitFor([&] { return vmm_.interruptions() != before; }));
    EXPECT_EQ(vmm_.interruptions(), before + 1);
  }
  CheckThatItGoesOn();
  EXPECT_GT(vmm_.interruptions(), 0u) << "it was never in KVM_RUN";
  EXPECT_EQ(vmm_.Finish(), "");
}

TEST_P(InKvmRun, AnotherVmOfTheProcessIsReadAndMoved) {
  AttachedPort port = PortOf(vmm_, vmm_.paused_vm());
  auto first = port.ReadAll(port::Hold::kNo);
  ASSERT_TRUE(first.ok()) << first.status();
  const uint64_t start = first->vcpus[0].tsc_offset_ticks;
  for (uint64_t i = 1; i <= kTimes; ++i) {
    port::ApplyOrder order = {};
    order.vcpus = first->vcpus;
    order.vcpus[0].tsc_offset_ticks = start + i * kMoveTicks;
    auto applied = port.WriteAll(order, port::Hold::kNo);
    ASSERT_TRUE(applied.ok()) << applied.status();
    auto read = port.ReadAll(port::Hold::kNo);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->vcpus[0].tsc_offset_ticks, start + i * kMoveTicks);
  }
  CheckThatItGoesOn();
  EXPECT_GT(vmm_.interruptions(), 0u) << "it was never in KVM_RUN";
  // The VM that runs has the offset that it had: the child looks.
  EXPECT_EQ(vmm_.Finish(), "");
}

TEST_P(InKvmRun, ATracerThatDiesAtAnyStepHarmsNothing) {
  for (const std::string& step : kSteps) {
    const pid_t tracer = fork();
    if (tracer == 0) {
      at_failpoint = [&step](const std::string& name) {
        if (name != "attach." + step) return;
        kill(getpid(), SIGKILL);
        for (;;) pause();
      };
      auto result = Inject(vmm_.pid(), vmm_.pid(), GetPid());
      _exit(result.ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(tracer, &status, 0), tracer);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << step << ": " << status;
    CheckThatItGoesOn();
  }
  EXPECT_EQ(vmm_.Finish(), "");
}

INSTANTIATE_TEST_SUITE_P(
    RealKvm, InKvmRun,
    testing::Combine(testing::Values(GuestCode::kCounts, GuestCode::kHalts), testing::Bool()),
    [](const testing::TestParamInfo<Kind>& kind) {
      return std::string(std::get<0>(kind.param) == GuestCode::kCounts ? "Counts" : "Halts") +
             (std::get<1>(kind.param) ? "WithAMaskOfItsOwn" : "");
    });

}  // namespace
}  // namespace tsc_handoff::attach

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) {
    fprintf(stderr, "kvm_run_test: this machine has no KVM to test\n");
    return 1;
  }
  close(kvm);
  return RUN_ALL_TESTS();
}
