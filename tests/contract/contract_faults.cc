// The contract, second part: what goes wrong. All or nothing, and the fault says where.

#include <errno.h>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/contract/contract_suite.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::contract {
namespace {

constexpr uint32_t kEverything = TSC_TARGET_WRITE_KHZ | TSC_TARGET_WRITE_KVMCLOCK;
constexpr auto kPatience = std::chrono::seconds(20);

// The step that an ioctl belongs to, given whether anything has been written before it.
uint32_t StepOf(unsigned long request, bool after_writes) {
  switch (request) {
    case KVM_GET_DEVICE_ATTR:
      return after_writes ? TSC_STEP_VERIFY_OFFSET : TSC_STEP_READ_OFFSET;
    case KVM_GET_MSRS:
      return after_writes ? TSC_STEP_VERIFY_MSRS : TSC_STEP_READ_MSRS;
    case KVM_GET_CLOCK:
      return after_writes ? TSC_STEP_VERIFY_KVMCLOCK : TSC_STEP_READ_KVMCLOCK;
    case KVM_GET_TSC_KHZ:
      return TSC_STEP_READ_KHZ;
    case KVM_SET_TSC_KHZ:
      return TSC_STEP_WRITE_KHZ;
    case KVM_SET_DEVICE_ATTR:
      return TSC_STEP_WRITE_OFFSET;
    case KVM_SET_MSRS:
      return TSC_STEP_WRITE_MSRS;
    case KVM_SET_CLOCK:
      return TSC_STEP_WRITE_KVMCLOCK;
    default:
      return TSC_STEP_NONE;
  }
}

bool WroteBefore(const std::vector<LoggedCall>& log, size_t nth) {
  return std::any_of(log.begin(), log.begin() + static_cast<std::ptrdiff_t>(nth) - 1,
                     [](const LoggedCall& call) { return call.writes; });
}

TEST_P(KeepingKernel, EveryFailingIoctlLeavesEverythingAsItWas) {
  ASSERT_NO_FATAL_FAILURE(MakeVm({.deadline_timer = true}));
  ASSERT_NO_FATAL_FAILURE(GiveItAPast());
  uint64_t failures = 0;
  for (uint64_t nth = 1;; ++nth) {
    SCOPED_TRACE(testing::Message() << "ioctl " << nth << " fails");
    // Taken anew each time: kvmclock is restored to within the errors of reading it, and these add
    // up.
    const VmSnapshot before = Snapshot();
    vm_->interposer().Reset();
    vm_->interposer().FailCall(nth, ENOMEM);
    ApplyResult result = access_->Apply(Target(kEverything, nth % 2 == 0), OddStates(nth));
    std::vector<LoggedCall> log = vm_->interposer().Log();
    if (log.size() < nth) {
      EXPECT_EQ(result.fault.outcome, TSC_KVM_OK);
      break;
    }
    ++failures;
    const LoggedCall& failed = log[nth - 1];
    EXPECT_EQ(result.fault.outcome, TSC_KVM_FAILED);
    EXPECT_EQ(result.fault.error, ENOMEM);
    EXPECT_STREQ(StepName(result.fault.step, GetParam().direct),
                 StepName(StepOf(failed.request, WroteBefore(log, nth)), GetParam().direct));
    if (failed.vcpu_id != LoggedCall::kVm) {
      EXPECT_EQ(result.fault.vcpu_id, failed.vcpu_id);
    }
    vm_->interposer().Reset();
    ExpectAsBefore(before);
    if (HasFatalFailure()) return;
  }
  // 3 reads, 3 writes and 2 verifications a vCPU, and kvmclock's three.
  EXPECT_GE(failures, 8u * count() + 3);
}

TEST_P(KeepingKernel, EveryFailingIoctlOfACaptureIsNamed) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  for (uint64_t nth = 1;; ++nth) {
    vm_->interposer().Reset();
    vm_->interposer().FailCall(nth, EPERM);
    CaptureResult result = access_->Capture();
    std::vector<LoggedCall> log = vm_->interposer().Log();
    if (log.size() < nth) {
      EXPECT_EQ(result.fault.outcome, TSC_KVM_OK);
      EXPECT_GE(nth, 3u * count() + 1);
      break;
    }
    EXPECT_EQ(result.fault.outcome, TSC_KVM_FAILED);
    EXPECT_EQ(result.fault.error, EPERM);
    EXPECT_STREQ(StepName(result.fault.step), StepName(StepOf(log[nth - 1].request, false)));
    if (log[nth - 1].vcpu_id != LoggedCall::kVm) {
      EXPECT_EQ(result.fault.vcpu_id, log[nth - 1].vcpu_id);
    }
  }
}

TEST_P(KeepingKernel, OffsetThatIsNotKeptIsFoundOnEveryVcpu) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  ASSERT_EQ(access_->Apply(Target(0), OddStates(1)).fault.outcome, TSC_KVM_OK);
  const VmSnapshot before = Snapshot();
  for (uint32_t i = 0; i < count(); ++i) {
    vm_->interposer().Reset();
    vm_->interposer().DropFirst(KVM_SET_DEVICE_ATTR, IdAt(i));
    std::vector<tsc_vcpu_state> wanted = OddStates(2);
    ApplyResult result = access_->Apply(Target(0), wanted);
    EXPECT_EQ(result.fault.outcome, TSC_KVM_NOT_KEPT);
    EXPECT_EQ(result.fault.step, TSC_STEP_VERIFY_OFFSET);
    EXPECT_EQ(result.fault.vcpu_id, IdAt(i));
    if (GetParam().direct) {
      EXPECT_EQ(result.fault.wanted, wanted[i].tsc_offset_ticks);
      EXPECT_EQ(result.fault.found, before.vcpus[i].offset_ticks);
    }
    ExpectAsBefore(before);
  }
}

TEST_P(KeepingKernel, AdjustThatIsNotKeptIsFoundOnEveryVcpu) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  ASSERT_EQ(access_->Apply(Target(0), OddStates(1)).fault.outcome, TSC_KVM_OK);
  const VmSnapshot before = Snapshot();
  for (uint32_t i = 0; i < count(); ++i) {
    vm_->interposer().Reset();
    vm_->interposer().DropFirst(KVM_SET_MSRS, IdAt(i));
    ApplyResult result = access_->Apply(Target(0), OddStates(2));
    EXPECT_EQ(result.fault.outcome, TSC_KVM_NOT_KEPT);
    EXPECT_EQ(result.fault.step, TSC_STEP_VERIFY_MSRS);
    EXPECT_EQ(result.fault.vcpu_id, IdAt(i));
    ExpectAsBefore(before);
  }
}

TEST_P(KeepingKernel, RollbackThatFailsIsReported) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  // Everything fails from the `after`th ioctl behind the first write on. Two writes and two
  // verifications a vCPU.
  for (uint64_t after = 1; after < 4ull * count(); ++after) {
    vm_->interposer().Reset();
    uint64_t first_write = 0;
    vm_->interposer().SetHook([&](uint64_t nth, const LoggedCall& call) {
      if (call.writes && first_write == 0) first_write = nth;
      if (first_write != 0 && nth == first_write + after) vm_->interposer().FailFrom(nth, EIO);
    });
    EXPECT_EQ(access_->Apply(Target(0), OddStates(after)).fault.outcome, TSC_KVM_ROLLBACK_FAILED)
        << "from " << after << " ioctls behind the first write on";
  }
  // Before anything was written there is nothing to roll back.
  vm_->interposer().Reset();
  vm_->interposer().FailFrom(3ull * count(), EIO);
  EXPECT_EQ(access_->Apply(Target(0), OddStates(1)).fault.outcome, TSC_KVM_FAILED);
}

TEST_P(KeepingKernel, RequestForOtherVcpusIsRefusedWithoutWrites) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  const VmSnapshot before = Snapshot();
  vm_->interposer().Reset();
  std::vector<tsc_vcpu_state> other = OddStates();
  other[1].vcpu_id += 1;
  EXPECT_EQ(access_->Apply(Target(0), other).fault.outcome, TSC_KVM_MISMATCH);
  std::vector<tsc_vcpu_state> fewer = OddStates();
  fewer.pop_back();
  EXPECT_EQ(access_->Apply(Target(0), fewer).fault.outcome, TSC_KVM_MISMATCH);
  std::vector<tsc_vcpu_state> swapped = OddStates();
  std::swap(swapped[0], swapped[1]);
  EXPECT_EQ(access_->Apply(Target(0), swapped).fault.outcome, TSC_KVM_MISMATCH);
  EXPECT_EQ(access_->Apply(Target(0), {}).fault.outcome, TSC_KVM_MISMATCH);
  // A port's caller has checked how many there are: a request that is longer than any for this VM
  // ends the connection.
  if (GetParam().direct) {
    std::vector<tsc_vcpu_state> more = OddStates();
    more.push_back(more.back());
    more.back().vcpu_id += 1;
    EXPECT_EQ(access_->Apply(Target(0), more).fault.outcome, TSC_KVM_MISMATCH);
  }
  ExpectNoWrites();
  ExpectAsBefore(before);
}

TEST_P(DirectAccessOnly, CancelBeforeTheFirstWriteWritesNothing) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  const VmSnapshot before = Snapshot();
  for (uint64_t at = 1; at <= 3ull * count() + 1; ++at) {
    vm_->interposer().Reset();
    vm_->interposer().SetHook([&](uint64_t nth, const LoggedCall&) {
      if (nth == at) {
        EXPECT_EQ(tsc_kvm_cancel(access_->progress()), 1);
      }
    });
    ApplyResult result = access_->Apply(Target(kEverything), OddStates());
    EXPECT_EQ(result.fault.outcome, TSC_KVM_CANCELLED) << "during ioctl " << at;
    ExpectNoWrites();
  }
  vm_->interposer().Reset();
  ExpectAsBefore(before);
}

TEST_P(DirectAccessOnly, CancelDuringAnyIoctlLeavesEverythingAsItWas) {
  ASSERT_NO_FATAL_FAILURE(MakeVm({.deadline_timer = true}));
  ASSERT_NO_FATAL_FAILURE(GiveItAPast());
  for (uint64_t at = 1;; ++at) {
    SCOPED_TRACE(testing::Message() << "cancelled during ioctl " << at);
    // Taken anew each time: kvmclock is restored to within the errors of reading it, and these add
    // up.
    const VmSnapshot before = Snapshot();
    bool cancelled = false;
    vm_->interposer().Reset();
    vm_->interposer().SetHook([&](uint64_t nth, const LoggedCall&) {
      if (nth == at) cancelled = tsc_kvm_cancel(access_->progress()) == 1;
    });
    ApplyResult result = access_->Apply(Target(kEverything, at % 2 == 0), OddStates(at));
    vm_->interposer().SetHook(nullptr);
    if (vm_->interposer().Log().size() < at) {
      EXPECT_EQ(result.fault.outcome, TSC_KVM_OK);
      EXPECT_EQ(tsc_kvm_cancel(access_->progress()), 0) << "it is complete";
      break;
    }
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(result.fault.outcome, TSC_KVM_CANCELLED);
    ExpectAsBefore(before);
    if (HasFailure()) return;
  }
}

TEST_P(DirectAccessOnly, ExecutingVcpuIsNamedAndCancelIsHonouredWhenItStops) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  const VmSnapshot before = Snapshot();
  ASSERT_TRUE(vm_->Block(1).ok());
  vm_->interposer().Reset();
  ApplyResult result;
  std::thread operation([&] { result = access_->Apply(Target(kEverything), OddStates()); });
  auto give_up = std::chrono::steady_clock::now() + kPatience;
  auto at_the_vcpu = [&] {
    return __atomic_load_n(&access_->progress()->step, __ATOMIC_ACQUIRE) == TSC_STEP_READ_OFFSET &&
           __atomic_load_n(&access_->progress()->vcpu_id, __ATOMIC_RELAXED) == IdAt(1);
  };
  while (!at_the_vcpu() && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_TRUE(at_the_vcpu()) << "progress does not name vCPU " << IdAt(1);
  EXPECT_EQ(tsc_kvm_cancel(access_->progress()), 1);
  EXPECT_TRUE(vm_->Unblock(1).ok());
  operation.join();
  EXPECT_EQ(result.fault.outcome, TSC_KVM_CANCELLED);
  ExpectNoWrites();
  vm_->interposer().Reset();
  ExpectAsBefore(before);
}

TEST_P(PortAccessOnly, ExecutingVcpuIsNamedWithinASecondAndNothingIsWritten) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  const VmSnapshot before = Snapshot();
  ASSERT_TRUE(vm_->Block(1).ok());
  vm_->interposer().Reset();
  auto started = std::chrono::steady_clock::now();
  ApplyResult result = access_->Apply(Target(kEverything), OddStates());
  auto took = std::chrono::steady_clock::now() - started;
  EXPECT_EQ(result.fault.outcome, TSC_KVM_BLOCKED);
  EXPECT_EQ(result.fault.vcpu_id, IdAt(1));
  EXPECT_LT(took, std::chrono::seconds(1));
  // The VMM is still stuck in it.
  EXPECT_EQ(access_->Capture().fault.outcome, TSC_KVM_BLOCKED);
  EXPECT_TRUE(vm_->Unblock(1).ok());
  auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (access_->Capture().fault.outcome == TSC_KVM_BLOCKED &&
         std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  EXPECT_EQ(access_->Capture().fault.outcome, TSC_KVM_OK);
  ExpectNoWrites();
  vm_->interposer().Reset();
  ExpectAsBefore(before);
}

TEST_P(AnyKernel, OtherProcessGetsEio) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  absl::StatusOr<tsc_kvm_fault> fault = vm_->CaptureFromOtherProcess();
  ASSERT_TRUE(fault.ok()) << fault.status();
  EXPECT_EQ(fault->outcome, TSC_KVM_FAILED);
  EXPECT_EQ(fault->step, TSC_STEP_READ_OFFSET);
  EXPECT_EQ(fault->vcpu_id, IdAt(0));
  EXPECT_EQ(fault->error, EIO);
}

TEST_P(ProtectedKernel, OffsetThatIsAcceptedAndNotKeptIsReported) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  absl::StatusOr<uint64_t> before = ReadOffset(vm_->kernel(), FdAt(0));
  ASSERT_TRUE(before.ok()) << before.status();
  std::vector<tsc_vcpu_state> wanted = EqualStates(*before + 12345);
  ApplyResult result = access_->Apply(Target(0), wanted);
  EXPECT_EQ(result.fault.outcome, TSC_KVM_NOT_KEPT);
  EXPECT_EQ(result.fault.step, TSC_STEP_VERIFY_OFFSET);
  EXPECT_EQ(result.fault.vcpu_id, IdAt(0));
  absl::StatusOr<uint64_t> after = ReadOffset(vm_->kernel(), FdAt(0));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(*after, *before);
}

}  // namespace
}  // namespace tsc_handoff::contract
