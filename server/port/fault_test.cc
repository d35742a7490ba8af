#include "server/port/fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "server/base/error.h"

namespace tsc_handoff::port {
namespace {

using testing::HasSubstr;
using testing::StrEq;

constexpr uint32_t kLastStep = TSC_STEP_VERIFY_KVMCLOCK;

tsc_kvm_fault Fault(uint32_t outcome, uint32_t step, int32_t error = 0) {
  return {outcome, step, 7, error, 111, 222};
}

TEST(FaultToStatus, OkIsOk) { EXPECT_TRUE(FaultToStatus("vm", Fault(TSC_KVM_OK, 0)).ok()); }

TEST(FaultToStatus, EveryOutcomeAtEveryStepHasAReasonAndASentence) {
  for (uint32_t outcome = TSC_KVM_FAILED; outcome <= TSC_KVM_BLOCKED + 1; ++outcome) {
    for (uint32_t step = TSC_STEP_NONE; step <= kLastStep + 1; ++step) {
      const absl::Status status = FaultToStatus("db-7", Fault(outcome, step, EIO));
      EXPECT_TRUE(ReasonOf(status).has_value()) << outcome << " " << step;
      EXPECT_THAT(std::string(status.message()), HasSubstr("db-7"));
      EXPECT_EQ(MetadataOf(status)["vm_id"], "db-7");
    }
  }
}

TEST(FaultToStatus, FailedIoctlIsNamedWithItsVcpuAndErrno) {
  const absl::Status status =
      FaultToStatus("vm", Fault(TSC_KVM_FAILED, TSC_STEP_WRITE_OFFSET, ENXIO));
  EXPECT_EQ(ReasonOf(status), Reason::kKvmIoctlFailed);
  Metadata metadata = MetadataOf(status);
  EXPECT_EQ(metadata["ioctl"], "KVM_SET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)");
  EXPECT_EQ(metadata["vcpu_id"], "7");
  EXPECT_EQ(metadata["errno"], std::to_string(ENXIO));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Linux 5.16"));
}

TEST(FaultToStatus, FailureOfTheVmsOwnIoctlNamesNoVcpu) {
  Metadata metadata =
      MetadataOf(FaultToStatus("vm", Fault(TSC_KVM_FAILED, TSC_STEP_WRITE_KVMCLOCK, EIO)));
  EXPECT_EQ(metadata["ioctl"], "KVM_SET_CLOCK");
  EXPECT_EQ(metadata.count("vcpu_id"), 0u);
}

TEST(FaultToStatus, WhatWasNotKeptDecidesTheReason) {
  EXPECT_EQ(ReasonOf(FaultToStatus("vm", Fault(TSC_KVM_NOT_KEPT, TSC_STEP_VERIFY_OFFSET))),
            Reason::kTscProtected);
  EXPECT_EQ(ReasonOf(FaultToStatus("vm", Fault(TSC_KVM_NOT_KEPT, TSC_STEP_VERIFY_MSRS))),
            Reason::kTscAdjustUnsupported);
  EXPECT_EQ(ReasonOf(FaultToStatus("vm", Fault(TSC_KVM_NOT_KEPT, TSC_STEP_VERIFY_KVMCLOCK))),
            Reason::kKvmIoctlFailed);
  EXPECT_THAT(
      std::string(FaultToStatus("vm", Fault(TSC_KVM_NOT_KEPT, TSC_STEP_VERIFY_OFFSET)).message()),
      HasSubstr("written 111, read back 222"));
}

TEST(FaultToStatus, RunningAndBlockedAreTheCallersToMend) {
  EXPECT_EQ(ReasonOf(FaultToStatus("vm", Fault(TSC_KVM_RUNNING, 0))), Reason::kVmRunning);
  EXPECT_EQ(ReasonOf(FaultToStatus("vm", Fault(TSC_KVM_BLOCKED, TSC_STEP_READ_MSRS))),
            Reason::kVmRunning);
  EXPECT_EQ(ReasonOf(FaultToStatus("vm", Fault(TSC_KVM_ROLLBACK_FAILED, 6))),
            Reason::kRollbackFailed);
}

TEST(IoctlOfStep, IsKnownForEveryStep) {
  for (uint32_t step = TSC_STEP_READ_OFFSET; step <= kLastStep; ++step)
    EXPECT_THAT(IoctlOfStep(step), HasSubstr("KVM_"));
  EXPECT_THAT(IoctlOfStep(TSC_STEP_NONE), StrEq("none"));
  EXPECT_THAT(IoctlOfStep(kLastStep + 1), StrEq("none"));
}

}  // namespace
}  // namespace tsc_handoff::port
