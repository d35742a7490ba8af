// What goes wrong in the middle: ioctls that fail at every vCPU and every step, values that are not
// kept, vCPUs that execute all the same, VMMs that die, two calls at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/service/pair.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using sim::Fault;
using sim::SimCall;

// kvmclock is written "now", between two readings 1 us apart (the simulated ioctl).
constexpr uint64_t kKvmclockToleranceNs = 1'500;

// KVM settles the master clock when vCPUs enter the guest.
bool RunOnce(sim::SimGuest& guest) {
  const absl::Status resumed = guest.Resume();
  EXPECT_TRUE(resumed.ok()) << resumed;
  guest.Pause();
  return resumed.ok();
}

struct Step {
  const char* name;
  unsigned long request;
  uint64_t nth;  // the same ioctl is issued several times
  bool per_vcpu;
  const char* ioctl;  // as the error's metadata name it
};

const Step kSteps[] = {
    {"ReadOffset", KVM_GET_DEVICE_ATTR, 1, true, "KVM_GET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)"},
    {"ReadMsrs", KVM_GET_MSRS, 1, true, "KVM_GET_MSRS"},
    {"ReadKhz", KVM_GET_TSC_KHZ, 1, true, "KVM_GET_TSC_KHZ"},
    {"ReadKvmclock", KVM_GET_CLOCK, 1, false, "KVM_GET_CLOCK"},
    {"WriteKhz", KVM_SET_TSC_KHZ, 1, true, "KVM_SET_TSC_KHZ"},
    {"WriteOffset", KVM_SET_DEVICE_ATTR, 1, true, "KVM_SET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)"},
    {"WriteMsrs", KVM_SET_MSRS, 1, true, "KVM_SET_MSRS"},
    {"VerifyOffset", KVM_GET_DEVICE_ATTR, 2, true, "KVM_GET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)"},
    {"VerifyMsrs", KVM_GET_MSRS, 2, true, "KVM_GET_MSRS"},
    {"WriteKvmclock", KVM_SET_CLOCK, 1, false, "KVM_SET_CLOCK"},
    {"VerifyKvmclock", KVM_GET_CLOCK, 2, false, "KVM_GET_CLOCK"},
};

void PrintTo(const Step& step, std::ostream* out) { *out << step.name; }

class IoctlFails : public testing::TestWithParam<Step> {};

TEST_P(IoctlFails, AtEachVcpuOfEightEverythingIsRestored) {
  constexpr uint32_t kVcpus = 8;
  const Step& step = GetParam();
  PairOptions options;
  options.guest.vcpu_ids = options.destination_guest.vcpu_ids = {0, 1, 2, 5, 6, 40, 41, 4095};
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  // It has run, with equal offsets, so it has the master clock, which a rollback must not lose.
  ASSERT_TRUE(RunOnce(*pair.destination_vm));
  ASSERT_TRUE(pair.destination->host().MasterClock(pair.destination_vm->vm().vm_fd));
  const v1::SetTscStateRequest request = pair.Request();
  sim::SimHost& host = pair.destination->host();
  for (uint32_t k = 0; k < (step.per_vcpu ? kVcpus : 1); ++k) {
    const uint32_t id = options.guest.vcpu_ids[k];
    SCOPED_TRACE(testing::Message() << "vCPU " << id);
    const Snapshot before = Look(*pair.destination_vm);
    Fault fault;
    fault.request = step.request;
    fault.vcpu_id = step.per_vcpu ? id : SimCall::kNoVcpu;
    fault.nth = step.nth;
    fault.error = ENOMEM;
    host.Inject(fault);

    const absl::Status status = pair.to->SetTscState(request).status();

    host.ClearFaults();
    ExpectRefused(status, StatusCode::kInternal, "KVM_IOCTL_FAILED");
    auto metadata = client::MetadataOf(status);
    EXPECT_EQ(metadata["ioctl"], step.ioctl);
    EXPECT_EQ(metadata["errno"], absl::StrCat(ENOMEM));
    EXPECT_EQ(metadata["vcpu_id"], step.per_vcpu ? absl::StrCat(id) : "");
    const bool kvmclock_written = !step.per_vcpu && step.nth + (step.request == KVM_SET_CLOCK) > 1;
    ExpectUnchanged(*pair.destination_vm, before, kvmclock_written ? kKvmclockToleranceNs : 0);
  }
  EXPECT_TRUE(pair.to->SetTscState(request).ok()) << "the VM is usable afterwards";
}

INSTANTIATE_TEST_SUITE_P(All, IoctlFails, testing::ValuesIn(kSteps),
                         [](const auto& row) { return row.param.name; });

// A value that KVM accepts and drops, at one vCPU only; the others have taken theirs by then.
TEST(NotKept, OffsetAtEachVcpu) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  for (uint32_t k = 0; k < 4; ++k) {
    const Snapshot before = Look(*pair.destination_vm);
    Fault fault;
    fault.kind = Fault::Kind::kDrop;
    fault.request = KVM_SET_DEVICE_ATTR;
    fault.vcpu_id = k;
    pair.destination->host().Inject(fault);
    const absl::Status status = pair.to->SetTscState(request).status();
    pair.destination->host().ClearFaults();
    ExpectRefused(status, StatusCode::kFailedPrecondition, "TSC_PROTECTED");
    EXPECT_EQ(client::MetadataOf(status)["vcpu_id"], absl::StrCat(k));
    ExpectUnchanged(*pair.destination_vm, before);
  }
}

TEST(NotKept, ShortMsrCountIsAFailureOfItsOwn) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  for (const unsigned long msrs : {KVM_GET_MSRS, KVM_SET_MSRS}) {
    const Snapshot before = Look(*pair.destination_vm);
    Fault fault;
    fault.kind = Fault::Kind::kShort;
    fault.count = 1;
    fault.request = msrs;
    fault.vcpu_id = 3;
    pair.destination->host().Inject(fault);
    const absl::Status status = pair.to->SetTscState(request).status();
    pair.destination->host().ClearFaults();
    ExpectRefused(status, StatusCode::kInternal, "KVM_IOCTL_FAILED");
    ExpectUnchanged(*pair.destination_vm, before);
  }
}

TEST(NotKept, Kvmclock) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  // Far from where it shall be: what is near enough cannot be told from what was kept.
  kvm_clock_data far = {};
  far.clock = 3'600'000'000'000;
  const tsc_kvm_ops* ops = pair.destination->host().OpsFor(1);
  ASSERT_EQ(ops->ioctl(ops->ctx, pair.destination_vm->vm().vm_fd, KVM_SET_CLOCK, &far), 0);
  const Snapshot before = Look(*pair.destination_vm);
  Fault fault;
  fault.kind = Fault::Kind::kDrop;
  fault.request = KVM_SET_CLOCK;
  fault.always = true;
  pair.destination->host().Inject(fault);
  const absl::Status status = pair.to->SetTscState(request).status();
  pair.destination->host().ClearFaults();
  ExpectRefused(status, StatusCode::kInternal, "KVM_IOCTL_FAILED");
  ExpectUnchanged(*pair.destination_vm, before, kKvmclockToleranceNs);
}

TEST(RollbackFailed, IsSaidByNameAndAGoodStateHelps) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  Fault no_second_write;
  no_second_write.request = KVM_SET_DEVICE_ATTR;
  no_second_write.vcpu_id = 1;
  no_second_write.nth = 2;
  no_second_write.always = true;
  pair.destination->host().Inject(no_second_write);
  Fault write_fails;
  write_fails.request = KVM_SET_MSRS;
  write_fails.vcpu_id = 3;
  pair.destination->host().Inject(write_fails);
  const absl::Status status = pair.to->SetTscState(request).status();
  pair.destination->host().ClearFaults();
  ExpectRefused(status, StatusCode::kInternal, "ROLLBACK_FAILED");
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
  EXPECT_THAT(pair.TrueErrorTicks(), testing::Each(pair.TrueErrorTicks().front()));
}

// ---- vCPUs that execute although the VM is said to be paused ----

// Where the vCPU begins to execute.
struct BlockCase {
  const char* name;
  std::optional<unsigned long> at;  // unset: before the call
  uint64_t nth;
};

void PrintTo(const BlockCase& block, std::ostream* out) { *out << block.name; }

class VcpuExecutes : public testing::TestWithParam<BlockCase> {};

TEST_P(VcpuExecutes, IsSaidWithinASecondAndNothingIsWrittenLate) {
  constexpr size_t kVcpu = 2;
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  ASSERT_TRUE(RunOnce(*pair.destination_vm));
  const Snapshot before = Look(*pair.destination_vm);
  sim::SimHost& host = pair.destination->host();
  const int fd = pair.destination_vm->vcpu_fd(kVcpu);
  std::atomic<uint64_t> seen = 0;
  if (GetParam().at.has_value()) {
    host.SetHook([&](const SimCall& call) {
      if (call.request != *GetParam().at || call.vcpu_id != kVcpu) return;
      if (++seen == GetParam().nth) host.Block(fd);
    });
  } else {
    host.Block(fd);
  }

  const absl::Time started = absl::Now();
  const absl::Status status = pair.to->SetTscState(request).status();
  EXPECT_LT(absl::Now() - started, absl::Seconds(1));
  ExpectRefused(status, StatusCode::kFailedPrecondition, "VM_RUNNING");
  EXPECT_EQ(client::MetadataOf(status)["vcpu_id"], absl::StrCat(kVcpu));

  // The VMM is still stuck in it: said at once, and other calls are not held up.
  const absl::Time again = absl::Now();
  ExpectRefused(pair.to->GetTscState("vm").status(), StatusCode::kFailedPrecondition, "VM_RUNNING");
  EXPECT_LT(absl::Now() - again, absl::Milliseconds(500));
  EXPECT_TRUE(pair.to->GetVm("vm").ok());

  host.SetHook(nullptr);
  host.Unblock(fd);
  EXPECT_TRUE(Await([&] { return pair.to->GetTscState("vm").ok(); })) << "usable again";
  ASSERT_TRUE(RunOnce(*pair.destination_vm));
  ExpectUnchanged(*pair.destination_vm, before, kKvmclockToleranceNs);
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
}

INSTANTIATE_TEST_SUITE_P(All, VcpuExecutes,
                         testing::Values(BlockCase{"BeforeTheCall", std::nullopt, 0},
                                         BlockCase{"AtWriteKhz", KVM_SET_TSC_KHZ, 1},
                                         BlockCase{"AtWriteOffset", KVM_SET_DEVICE_ATTR, 1},
                                         BlockCase{"AtWriteMsrs", KVM_SET_MSRS, 1},
                                         BlockCase{"AtVerifyMsrs", KVM_GET_MSRS, 2}),
                         [](const auto& row) { return row.param.name; });

// ---- VMMs that die ----

struct DeathCase {
  const char* name;
  unsigned long at;
  uint64_t nth;
};

void PrintTo(const DeathCase& death, std::ostream* out) { *out << death.name; }

class VmmDies : public testing::TestWithParam<DeathCase> {};

// The VMM's end of the connection is cut in the middle of an apply.
TEST_P(VmmDies, IsSaidAndForgottenAndTheVmIsWholeOneWayOrTheOther) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  ASSERT_TRUE(RunOnce(*pair.destination_vm));
  const Snapshot before = Look(*pair.destination_vm);
  std::atomic<uint64_t> seen = 0;
  pair.destination->host().SetHook([&](const SimCall& call) {
    if (call.request == GetParam().at && ++seen == GetParam().nth)
      pair.destination_vm->CutConnection();
  });
  const absl::Status status = pair.to->SetTscState(request).status();
  ExpectRefused(status, StatusCode::kUnavailable, "VMM_GONE");
  EXPECT_TRUE(Await([&] {
    auto vms = pair.to->ListVms();
    return vms.ok() && vms->empty();
  })) << "forgotten";
  ExpectRefused(pair.to->GetTscState("vm").status(), StatusCode::kNotFound, "VM_NOT_FOUND");

  pair.destination_vm->Disconnect();  // waits for the operation
  pair.destination->host().SetHook(nullptr);
  const std::vector<uint64_t> after = pair.destination_vm->Offsets();
  if (after[0] == before.vcpus[0].tsc_offset_ticks) {
    pair.destination->host().RunAll(pair.destination_vm->vm());
    ExpectUnchanged(*pair.destination_vm, before, kKvmclockToleranceNs);
  } else {
    EXPECT_THAT(pair.TrueErrorTicks(), testing::Each(pair.TrueErrorTicks().front()));
  }
}

INSTANTIATE_TEST_SUITE_P(All, VmmDies,
                         testing::Values(DeathCase{"WhileReading", KVM_GET_MSRS, 3},
                                         DeathCase{"AtTheFirstWrite", KVM_SET_TSC_KHZ, 1},
                                         DeathCase{"BetweenWrites", KVM_SET_DEVICE_ATTR, 3},
                                         DeathCase{"WhileVerifying", KVM_GET_DEVICE_ATTR, 7},
                                         DeathCase{"AtKvmclock", KVM_SET_CLOCK, 1}),
                         [](const auto& row) { return row.param.name; });

// ---- two calls at once ----

TEST(TwoCallsAtOnce, OneIsBusyTheOtherSucceeds) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  std::promise<void> inside;
  std::promise<void> go_on;
  std::shared_future<void> gate = go_on.get_future().share();
  std::atomic<bool> first = true;
  pair.destination->host().SetHook([&](const SimCall& call) {
    if (call.request != KVM_SET_DEVICE_ATTR || !first.exchange(false)) return;
    inside.set_value();
    gate.wait();
  });
  absl::Status winner;
  std::thread caller([&] { winner = pair.to->SetTscState(request).status(); });
  inside.get_future().wait();
  const auto loser = pair.to->SetTscState(request);
  const auto reader = pair.to->GetTscState("vm");
  const auto seen = pair.to->GetVm("vm");
  go_on.set_value();
  caller.join();
  pair.destination->host().SetHook(nullptr);
  EXPECT_TRUE(winner.ok()) << winner;
  ExpectRefused(loser.status(), StatusCode::kAborted, "VM_BUSY");
  ExpectRefused(reader.status(), StatusCode::kAborted, "VM_BUSY");
  EXPECT_TRUE(seen.ok()) << "GetVm does not need the VM for itself";
  EXPECT_THAT(pair.TrueErrorTicks(), testing::Each(pair.TrueErrorTicks().front()));
}

TEST(ResumeDuringAnApply, WaitsForItsEnd) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  std::promise<void> inside;
  std::promise<void> go_on;
  std::shared_future<void> gate = go_on.get_future().share();
  std::atomic<bool> first = true;
  pair.destination->host().SetHook([&](const SimCall& call) {
    if (call.request != KVM_SET_DEVICE_ATTR || !first.exchange(false)) return;
    inside.set_value();
    gate.wait();
  });
  absl::Status applied;
  std::thread caller([&] { applied = pair.to->SetTscState(request).status(); });
  inside.get_future().wait();
  std::atomic<bool> resumed = false;
  std::thread vmm([&] {
    EXPECT_TRUE(pair.destination_vm->Resume().ok());
    resumed = true;
  });
  EXPECT_FALSE(resumed.load());
  go_on.set_value();
  caller.join();
  vmm.join();
  EXPECT_TRUE(applied.ok()) << applied;
}

}  // namespace
}  // namespace tsc_handoff
