// The contract, third part: kvmclock and the master clock.

#include <errno.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "tests/contract/contract_suite.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::contract {
namespace {

constexpr uint32_t kMasterClockFlags =
    KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

TEST_P(MasterClockKernel, FlagsTellOfTheMasterClock) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  EXPECT_EQ(access_->Capture().kvmclock.flags, 0u) << "before the first KVM_RUN";
  ASSERT_NO_FATAL_FAILURE(RunAll());
  CaptureResult equal = access_->Capture();
  EXPECT_EQ(equal.kvmclock.flags, kMasterClockFlags) << "equal offsets";
  EXPECT_GE(equal.kvmclock.pair_host_tsc_ticks, equal.kvmclock.tsc_before_ticks);
  EXPECT_LE(equal.kvmclock.pair_host_tsc_ticks, equal.kvmclock.tsc_after_ticks);
  EXPECT_GT(equal.kvmclock.pair_realtime_ns, 0u);
  ASSERT_EQ(access_->Apply(Target(0), OddStates()).fault.outcome, TSC_KVM_OK);
  ASSERT_NO_FATAL_FAILURE(RunAll());
  CaptureResult unequal = access_->Capture();
  EXPECT_EQ(unequal.kvmclock.flags, 0u) << "unequal offsets";
  EXPECT_EQ(unequal.kvmclock.pair_host_tsc_ticks, 0u);
  EXPECT_EQ(unequal.kvmclock.pair_realtime_ns, 0u);
  ASSERT_EQ(access_->Apply(Target(0), EqualStates(99)).fault.outcome, TSC_KVM_OK);
  ASSERT_NO_FATAL_FAILURE(RunAll());
  EXPECT_EQ(access_->Capture().kvmclock.flags, kMasterClockFlags) << "equal offsets again";
}

TEST_P(MasterClockKernel, WritingKvmclockBringsTheMasterClockUpToDate) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  ApplyResult equal = access_->Apply(Target(TSC_TARGET_WRITE_KVMCLOCK), EqualStates(77));
  ASSERT_EQ(equal.fault.outcome, TSC_KVM_OK);
  EXPECT_EQ(equal.kvmclock.flags, kMasterClockFlags);
  ApplyResult unequal = access_->Apply(Target(TSC_TARGET_WRITE_KVMCLOCK), OddStates());
  ASSERT_EQ(unequal.fault.outcome, TSC_KVM_OK);
  EXPECT_EQ(unequal.kvmclock.flags, 0u);
}

// KVM counts writes of the same offset to decide about the master clock, so a rollback that
// restored only the vCPUs that were changed would cost the guest its master clock.
TEST_P(MasterClockKernel, FailedApplyKeepsTheMasterClock) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  ASSERT_NO_FATAL_FAILURE(RunAll());
  ASSERT_EQ(access_->Capture().kvmclock.flags, kMasterClockFlags);
  uint64_t calls = 0;
  for (uint64_t nth = 1; nth == 1 || calls >= nth; ++nth) {
    vm_->interposer().Reset();
    vm_->interposer().FailCall(nth, ENOMEM);
    ApplyResult result = access_->Apply(Target(0), OddStates(nth));
    calls = vm_->interposer().Log().size();
    if (calls < nth) break;
    ASSERT_EQ(result.fault.outcome, TSC_KVM_FAILED);
    vm_->interposer().Reset();
    ASSERT_NO_FATAL_FAILURE(RunAll());
    EXPECT_EQ(access_->Capture().kvmclock.flags, kMasterClockFlags)
        << "after ioctl " << nth << " failed";
  }
}

void ExpectAtTarget(const ClockReading& reading, const tsc_kvm_target& target,
                    const tsc_kvmclock_result& result, int64_t slack_ns) {
  int64_t passed_ns = TicksToNs(static_cast<int64_t>(reading.tsc_ticks - target.host_tsc_ticks),
                                target.host_tsc_khz);
  int64_t off_ns = static_cast<int64_t>(reading.kvmclock_ns - target.kvmclock_ns) - passed_ns;
  int64_t width_ns =
      TicksToNs(static_cast<int64_t>(reading.half_width_ticks), target.host_tsc_khz) + 2;
  // What apply reports of its error must be true, and small.
  EXPECT_LE(std::abs(off_ns - result.error_ns),
            width_ns + static_cast<int64_t>(result.read_error_ns) + 100);
  EXPECT_LE(std::abs(result.error_ns), static_cast<int64_t>(result.read_error_ns) + slack_ns);
  EXPECT_GE(result.writes, 1u);
}

TEST_P(KeepingKernel, KvmclockReachesItsTarget) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  for (bool realtime : {false, true}) {
    for (bool equal : {true, false, true}) {
      SCOPED_TRACE(testing::Message() << (equal ? "equal" : "unequal") << " offsets, "
                                      << (realtime ? "with" : "without") << " realtime");
      tsc_kvm_target target = Target(TSC_TARGET_WRITE_KVMCLOCK, realtime);
      vm_->PassTime(1'000'000);
      ApplyResult result = access_->Apply(target, equal ? EqualStates(5) : OddStates());
      ASSERT_EQ(result.fault.outcome, TSC_KVM_OK) << StepName(result.fault.step);
      ExpectAtTarget(Snapshot().kvmclock, target, result.kvmclock, traits().kvmclock_slack_ns);
      ASSERT_NO_FATAL_FAILURE(RunAll());
      ExpectAtTarget(Snapshot().kvmclock, target, result.kvmclock, traits().kvmclock_slack_ns);
    }
  }
}

TEST_P(KeepingKernel, KvmclockStaysWhereItIsUnlessAsked) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  ASSERT_NO_FATAL_FAILURE(RunAll());
  ClockReading before = Snapshot().kvmclock;
  ApplyResult result = access_->Apply(Target(0), OddStates());
  ASSERT_EQ(result.fault.outcome, TSC_KVM_OK);
  EXPECT_EQ(result.kvmclock.writes, 0u);
  int64_t moved_ns = KvmclockMovedNs(before, Snapshot().kvmclock, traits().host_khz);
  EXPECT_LE(std::abs(moved_ns), traits().kvmclock_slack_ns);
}

}  // namespace
}  // namespace tsc_handoff::contract
