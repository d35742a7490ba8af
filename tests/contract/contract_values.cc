// The contract, first part: values arrive as they were written, bit by bit, and in force.

#include <errno.h>
#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/contract/contract_suite.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::contract {
namespace {

constexpr uint64_t kHourTicks = 3600ull * 1'000'000 * 1000;  // at 1 GHz; longer on any slower one

// That the guest reads scale(host) + offset.
void ExpectGuestReads(const GuestReading& reading, const Oracle& scaling, uint64_t offset_ticks) {
  uint64_t from =
      ScaleTicks(reading.host_before_ticks, scaling.ratio, scaling.frac_bits) + offset_ticks;
  uint64_t to =
      ScaleTicks(reading.host_after_ticks, scaling.ratio, scaling.frac_bits) + offset_ticks;
  // The differences are small and do not wrap, though the values may.
  EXPECT_LE(reading.guest_ticks - from, to - from)
      << "guest read " << reading.guest_ticks << ", not within [" << from << ", " << to << "]";
}

TEST_P(KeepingKernel, CaptureReturnsWrittenOffsetsBitExactly) {
  ASSERT_NO_FATAL_FAILURE(MakeVm({.vcpu_ids = {0, 1, 2, 3, 4, 5, 6}}));
  const std::vector<uint64_t> offsets = {
      0, 1, UINT64_MAX, uint64_t{1} << 63, INT64_MAX, 0x1234567890, uint64_t{0} - 12345};
  for (uint32_t i = 0; i < count(); ++i) {
    ASSERT_TRUE(WriteOffset(vm_->kernel(), FdAt(i), offsets[i]).ok());
  }
  CaptureResult got = access_->Capture();
  ASSERT_EQ(got.fault.outcome, TSC_KVM_OK);
  ASSERT_EQ(got.vcpus.size(), offsets.size());
  for (uint32_t i = 0; i < count(); ++i) {
    EXPECT_EQ(got.vcpus[i].vcpu_id, i);
    EXPECT_EQ(got.vcpus[i].tsc_offset_ticks, offsets[i]);
    EXPECT_EQ(got.vcpus[i].tsc_khz, traits().host_khz);
    EXPECT_EQ(got.vcpus[i].tsc_adjust_ticks, 0u);
    EXPECT_EQ(got.vcpus[i].tsc_deadline_ticks, 0u);
  }
}

TEST_P(KeepingKernel, ApplyWritesEveryValueAndReportsWhatWasThere) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  VmSnapshot before = Snapshot();
  std::vector<tsc_vcpu_state> wanted = OddStates();
  ApplyResult result = access_->Apply(Target(0), wanted);
  ASSERT_EQ(result.fault.outcome, TSC_KVM_OK) << StepName(result.fault.step);
  ASSERT_EQ(result.before.size(), count());
  ASSERT_EQ(result.after.size(), count());
  VmSnapshot now = Snapshot();
  for (uint32_t i = 0; i < count(); ++i) {
    EXPECT_EQ(result.before[i].tsc_offset_ticks, before.vcpus[i].offset_ticks);
    EXPECT_EQ(result.before[i].tsc_adjust_ticks, before.vcpus[i].adjust_ticks);
    EXPECT_EQ(result.before[i].tsc_khz, before.vcpus[i].khz);
    EXPECT_EQ(result.after[i].vcpu_id, wanted[i].vcpu_id);
    EXPECT_EQ(result.after[i].tsc_offset_ticks, wanted[i].tsc_offset_ticks);
    EXPECT_EQ(result.after[i].tsc_adjust_ticks, wanted[i].tsc_adjust_ticks);
    EXPECT_EQ(now.vcpus[i].offset_ticks, wanted[i].tsc_offset_ticks);
    EXPECT_EQ(now.vcpus[i].adjust_ticks, wanted[i].tsc_adjust_ticks);
  }
  ExpectOffsetsInForce(wanted);
}

TEST_P(KeepingKernel, GuestPhaseIsExactAfterApplyOfUnequalOffsets) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  ASSERT_NO_FATAL_FAILURE(RunAll());
  std::vector<tsc_vcpu_state> wanted = OddStates();
  ASSERT_EQ(access_->Apply(Target(0), wanted).fault.outcome, TSC_KVM_OK);
  const Oracle unscaled = {0, uint64_t{1} << traits().frac_bits, traits().frac_bits};
  for (int round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < count(); ++i) {
      absl::StatusOr<GuestReading> reading = vm_->RunOnce(i);
      ASSERT_TRUE(reading.ok()) << reading.status();
      ExpectGuestReads(*reading, unscaled, wanted[i].tsc_offset_ticks);
    }
  }
  ExpectOffsetsInForce(wanted);
}

TEST_P(KeepingKernel, AdjustDoesNotMoveTheTsc) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  std::vector<tsc_vcpu_state> wanted = EqualStates(kHourTicks);
  for (tsc_vcpu_state& state : wanted) state.tsc_adjust_ticks = 0;
  ASSERT_EQ(access_->Apply(Target(0), wanted).fault.outcome, TSC_KVM_OK);
  for (tsc_vcpu_state& state : wanted) state.tsc_adjust_ticks = uint64_t{1} << 40;
  ASSERT_EQ(access_->Apply(Target(0), wanted).fault.outcome, TSC_KVM_OK);
  ExpectOffsetsInForce(wanted);
  absl::StatusOr<GuestReading> reading = vm_->RunOnce(0);
  ASSERT_TRUE(reading.ok()) << reading.status();
  ExpectGuestReads(*reading, {0, uint64_t{1} << traits().frac_bits, traits().frac_bits},
                   kHourTicks);
  EXPECT_EQ(Snapshot().vcpus[0].adjust_ticks, uint64_t{1} << 40);
}

// The offset moves the guest's TSC back by an hour. Armed under the old offset, the timer would
// fire at once.
TEST_P(KeepingKernel, DeadlineIsArmedUnderTheNewOffset) {
  ASSERT_NO_FATAL_FAILURE(MakeVm({.vcpu_ids = {0, 1}, .deadline_timer = true}));
  ASSERT_NO_FATAL_FAILURE(RunAll());
  uint64_t host = vm_->kernel()->rdtsc(vm_->kernel()->ctx);
  std::vector<tsc_vcpu_state> wanted = EqualStates(Snapshot().vcpus[0].offset_ticks - kHourTicks);
  const uint64_t wait_ticks = uint64_t{traits().host_khz} * 500;  // 0.5 s
  for (tsc_vcpu_state& state : wanted)
    state.tsc_deadline_ticks = host + state.tsc_offset_ticks + wait_ticks;
  ApplyResult result = access_->Apply(Target(0), wanted);
  ASSERT_EQ(result.fault.outcome, TSC_KVM_OK);
  for (uint32_t i = 0; i < count(); ++i) {
    EXPECT_EQ(result.after[i].tsc_deadline_ticks, wanted[i].tsc_deadline_ticks) << "vCPU " << i;
  }
  absl::StatusOr<uint64_t> armed = 0;
  do {
    // KVM notes that the timer has fired when a vCPU stays inside KVM_RUN across an exit.
    ASSERT_TRUE(vm_->Block(1).ok());
    ASSERT_TRUE(vm_->Unblock(1).ok());
    armed = ReadMsr(vm_->kernel(), FdAt(1), kMsrTscDeadline);
    ASSERT_TRUE(armed.ok()) << armed.status();
    uint64_t guest_now = vm_->kernel()->rdtsc(vm_->kernel()->ctx) + wanted[1].tsc_offset_ticks;
    if (*armed == 0) {
      EXPECT_GE(guest_now, wanted[1].tsc_deadline_ticks) << "fired early";
    } else {
      ASSERT_LE(guest_now, wanted[1].tsc_deadline_ticks + 20 * wait_ticks) << "does not fire";
      vm_->PassTime(5'000'000);
    }
  } while (*armed != 0);
}

TEST_P(KeepingKernel, DeadlineThatIsNotKeptIsNoFault) {
  ASSERT_NO_FATAL_FAILURE(MakeVm({.deadline_timer = false}));
  std::vector<tsc_vcpu_state> wanted = OddStates();
  for (tsc_vcpu_state& state : wanted) state.tsc_deadline_ticks = 123;
  ApplyResult result = access_->Apply(Target(0), wanted);
  ASSERT_EQ(result.fault.outcome, TSC_KVM_OK);
  for (const tsc_vcpu_state& state : result.after) EXPECT_EQ(state.tsc_deadline_ticks, 0u);
}

TEST_P(KeepingKernel, RefusedFrequencyLeavesEverythingAsItWas) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  VmSnapshot before = Snapshot();
  std::vector<tsc_vcpu_state> wanted = OddStates();
  // Without scaling half the rate cannot be had. With it, this is more than KVM takes.
  wanted[1].tsc_khz = traits().tsc_control ? 0x7fffffffu : traits().host_khz / 2;
  ApplyResult result = access_->Apply(Target(TSC_TARGET_WRITE_KHZ), wanted);
  EXPECT_EQ(result.fault.outcome, TSC_KVM_FAILED);
  EXPECT_EQ(result.fault.step, TSC_STEP_WRITE_KHZ);
  EXPECT_EQ(result.fault.vcpu_id, IdAt(1));
  EXPECT_EQ(result.fault.error, EINVAL);
  // KVM_GET_TSC_KHZ is part of this: KVM remembers a refused frequency unless it is set again.
  ExpectAsBefore(before);
}

TEST_P(KeepingKernel, FrequencyWithinToleranceIsNotScaled) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  std::vector<tsc_vcpu_state> wanted = OddStates();
  for (tsc_vcpu_state& state : wanted)
    state.tsc_khz = traits().host_khz + traits().host_khz / 10'000;
  ApplyResult result = access_->Apply(Target(TSC_TARGET_WRITE_KHZ), wanted);
  ASSERT_EQ(result.fault.outcome, TSC_KVM_OK) << StepName(result.fault.step);
  for (uint32_t i = 0; i < count(); ++i) {
    EXPECT_EQ(Snapshot().vcpus[i].khz, wanted[i].tsc_khz);
    absl::StatusOr<GuestReading> reading = vm_->RunOnce(i);
    ASSERT_TRUE(reading.ok()) << reading.status();
    ExpectGuestReads(*reading, {0, uint64_t{1} << traits().frac_bits, traits().frac_bits},
                     wanted[i].tsc_offset_ticks);
    absl::StatusOr<Oracle> oracle = vm_->ReadOracle(i);
    if (oracle.ok()) {
      EXPECT_EQ(oracle->ratio, uint64_t{1} << oracle->frac_bits);
    }
  }
}

TEST_P(ScalingKernel, ScaledFrequencyRunsAtKvmsTruncatedRatio) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  std::vector<tsc_vcpu_state> wanted = OddStates();
  const uint32_t rates[] = {traits().host_khz / 2, traits().host_khz / 3 + 1,
                            traits().host_khz + 1'000'003};
  for (uint32_t i = 0; i < count(); ++i) wanted[i].tsc_khz = rates[i % std::size(rates)];
  ApplyResult result = access_->Apply(Target(TSC_TARGET_WRITE_KHZ), wanted);
  ASSERT_EQ(result.fault.outcome, TSC_KVM_OK) << StepName(result.fault.step);
  for (uint32_t i = 0; i < count(); ++i) {
    Oracle scaling;
    scaling.frac_bits = traits().frac_bits;
    scaling.ratio = static_cast<uint64_t>(
        (static_cast<unsigned __int128>(wanted[i].tsc_khz) << traits().frac_bits) /
        traits().host_khz);
    absl::StatusOr<Oracle> oracle = vm_->ReadOracle(i);
    if (oracle.ok()) {
      EXPECT_EQ(oracle->frac_bits, scaling.frac_bits);
      EXPECT_EQ(oracle->ratio, scaling.ratio);
    }
    EXPECT_EQ(result.after[i].tsc_khz, wanted[i].tsc_khz);
    for (int round = 0; round < 3; ++round) {
      absl::StatusOr<GuestReading> reading = vm_->RunOnce(i);
      ASSERT_TRUE(reading.ok()) << reading.status();
      ExpectGuestReads(*reading, scaling, wanted[i].tsc_offset_ticks);
    }
  }
  ExpectOffsetsInForce(wanted);
}

TEST_P(KeepingKernel, FrequencyIsWrittenOnlyWhenAsked) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  std::vector<tsc_vcpu_state> wanted = OddStates();
  for (tsc_vcpu_state& state : wanted) state.tsc_khz = 1;
  vm_->interposer().Reset();
  ASSERT_EQ(access_->Apply(Target(0), wanted).fault.outcome, TSC_KVM_OK);
  for (const LoggedCall& call : vm_->interposer().Log()) {
    EXPECT_NE(call.request, KVM_SET_TSC_KHZ);
    EXPECT_NE(call.request, KVM_SET_CLOCK);
  }
}

TEST_P(KeepingKernel, SparseIdsAreNamesNotPositions) {
  VmSpec spec;
  spec.vcpu_ids = {0, 3, 64};
  if (traits().max_vcpu_id >= 4000) spec.vcpu_ids.push_back(4000);
  std::erase_if(spec.vcpu_ids, [this](uint32_t id) { return id > traits().max_vcpu_id; });
  ASSERT_NO_FATAL_FAILURE(MakeVm(spec));
  std::vector<tsc_vcpu_state> wanted = OddStates();
  ASSERT_EQ(access_->Apply(Target(0), wanted).fault.outcome, TSC_KVM_OK);
  CaptureResult got = access_->Capture();
  ASSERT_EQ(got.fault.outcome, TSC_KVM_OK);
  ASSERT_EQ(got.vcpus.size(), spec.vcpu_ids.size());
  for (uint32_t i = 0; i < count(); ++i) {
    EXPECT_EQ(got.vcpus[i].vcpu_id, spec.vcpu_ids[i]);
    EXPECT_EQ(got.vcpus[i].tsc_offset_ticks, wanted[i].tsc_offset_ticks);
    EXPECT_EQ(got.vcpus[i].tsc_adjust_ticks, wanted[i].tsc_adjust_ticks);
  }
  ExpectOffsetsInForce(wanted);
}

TEST_P(KeepingKernel, ManyVcpus) {
  VmSpec spec;
  spec.vcpu_ids.clear();
  for (uint32_t id = 0; id < traits().many_vcpus; ++id) spec.vcpu_ids.push_back(id);
  ASSERT_NO_FATAL_FAILURE(MakeVm(spec));
  std::vector<tsc_vcpu_state> wanted = OddStates();
  ASSERT_EQ(access_->Apply(Target(TSC_TARGET_WRITE_KVMCLOCK), wanted).fault.outcome, TSC_KVM_OK);
  CaptureResult got = access_->Capture();
  ASSERT_EQ(got.fault.outcome, TSC_KVM_OK);
  ASSERT_EQ(got.vcpus.size(), wanted.size());
  for (uint32_t i = 0; i < count(); ++i) {
    ASSERT_EQ(got.vcpus[i].vcpu_id, i);
    ASSERT_EQ(got.vcpus[i].tsc_offset_ticks, wanted[i].tsc_offset_ticks);
  }
  ExpectOffsetsInForce(wanted);
}

TEST_P(KeepingKernel, IoctlsComeInTheDocumentedOrder) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  vm_->interposer().Reset();
  uint32_t flags = TSC_TARGET_WRITE_KHZ | TSC_TARGET_WRITE_KVMCLOCK;
  ASSERT_EQ(access_->Apply(Target(flags), OddStates()).fault.outcome, TSC_KVM_OK);
  std::vector<LoggedCall> log = vm_->interposer().Log();
  auto first = [&log](unsigned long request, uint32_t id) {
    auto at = std::find_if(log.begin(), log.end(), [=](const LoggedCall& c) {
      return c.request == request && c.vcpu_id == id;
    });
    return at - log.begin();
  };
  auto last = [&log](unsigned long request, uint32_t id) {
    auto at = std::find_if(log.rbegin(), log.rend(), [=](const LoggedCall& c) {
      return c.request == request && c.vcpu_id == id;
    });
    return log.rend() - at - 1;
  };
  auto first_write =
      std::find_if(log.begin(), log.end(), [](const LoggedCall& c) { return c.writes; }) -
      log.begin();
  for (uint32_t i = 0; i < count(); ++i) {
    uint32_t id = IdAt(i);
    // Everything is read before anything is written.
    EXPECT_LT(first(KVM_GET_DEVICE_ATTR, id), first_write);
    EXPECT_LT(first(KVM_GET_MSRS, id), first_write);
    EXPECT_LT(first(KVM_GET_TSC_KHZ, id), first_write);
    EXPECT_LT(first(KVM_GET_CLOCK, LoggedCall::kVm), first_write);
    // The frequency before the offset that was computed for it, all offsets before all MSRs, all
    // read back after that.
    EXPECT_LT(first(KVM_SET_TSC_KHZ, id), first(KVM_SET_DEVICE_ATTR, id));
    for (uint32_t j = 0; j < count(); ++j) {
      EXPECT_LT(first(KVM_SET_DEVICE_ATTR, IdAt(j)), first(KVM_SET_MSRS, id));
      EXPECT_LT(first(KVM_SET_MSRS, IdAt(j)), last(KVM_GET_DEVICE_ATTR, id));
    }
    EXPECT_LT(last(KVM_SET_MSRS, id), last(KVM_GET_MSRS, id));
    // kvmclock last: writing offsets makes KVM reconsider the master clock.
    EXPECT_LT(last(KVM_SET_DEVICE_ATTR, id), first(KVM_SET_CLOCK, LoggedCall::kVm));
  }
  EXPECT_LT(last(KVM_SET_CLOCK, LoggedCall::kVm), last(KVM_GET_CLOCK, LoggedCall::kVm));
}

}  // namespace
}  // namespace tsc_handoff::contract
