#include "tests/contract/contract_suite.h"

#include <cstdlib>
#include <iterator>
#include <utility>

namespace tsc_handoff::contract {
namespace {

// Odd, so that its multiples run through all of 2^64 and wrap.
constexpr uint64_t kStride = 0x9e37'79b9'7f4a'7c15;

// Some 20 minutes: no timer armed for it fires during a test.
constexpr uint64_t kFarAheadTicks = uint64_t{1} << 42;

}  // namespace

std::ostream& operator<<(std::ostream& out, const ContractParam& param) {
  return out << param.name;
}

void AnyKernel::SetUp() {
  absl::StatusOr<std::unique_ptr<Backend>> backend = GetParam().backend();
  if (!backend.ok() && absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
  ASSERT_TRUE(backend.ok()) << backend.status();
  backend_ = *std::move(backend);
}

void KeepingKernel::SetUp() {
  AnyKernel::SetUp();
  if (backend_ && traits().tsc_protected)
    GTEST_SKIP() << "this machine's KVM protects the TSC: offsets are not kept";
}

void ProtectedKernel::SetUp() {
  AnyKernel::SetUp();
  if (backend_ && !traits().tsc_protected) GTEST_SKIP() << "this KVM keeps TSC offsets";
}

void ScalingKernel::SetUp() {
  KeepingKernel::SetUp();
  if (backend_ && !IsSkipped() && !traits().tsc_control)
    GTEST_SKIP() << "this CPU does not scale the TSC";
}

void MasterClockKernel::SetUp() {
  KeepingKernel::SetUp();
  if (backend_ && !IsSkipped() && !traits().master_clock)
    GTEST_SKIP() << "the clocksource is not the TSC";
}

void DirectAccessOnly::SetUp() {
  KeepingKernel::SetUp();
  if (backend_ && !IsSkipped() && !GetParam().direct)
    GTEST_SKIP() << "a port does not show progress";
}

void PortAccessOnly::SetUp() {
  KeepingKernel::SetUp();
  if (backend_ && !IsSkipped() && GetParam().direct) GTEST_SKIP() << "for ports";
}

void AnyKernel::MakeVm(const VmSpec& spec) {
  absl::StatusOr<std::unique_ptr<ContractVm>> vm = backend_->CreateVm(spec);
  ASSERT_TRUE(vm.ok()) << vm.status();
  vm_ = *std::move(vm);
  absl::StatusOr<std::unique_ptr<Access>> access = GetParam().access(*vm_);
  ASSERT_TRUE(access.ok()) << access.status();
  access_ = *std::move(access);
}

std::vector<tsc_vcpu_state> AnyKernel::OddStates(uint64_t variant) const {
  std::vector<tsc_vcpu_state> out(count());
  for (uint32_t i = 0; i < count(); ++i) {
    out[i] = {};
    out[i].vcpu_id = IdAt(i);
    out[i].tsc_khz = traits().host_khz;
    out[i].tsc_offset_ticks = kStride * (variant * 1000 + i + 1);
    out[i].tsc_adjust_ticks = i % 2 == 0 ? -kStride * (variant + i + 1) : 7 + variant;
  }
  return out;
}

std::vector<tsc_vcpu_state> AnyKernel::EqualStates(uint64_t offset_ticks) const {
  std::vector<tsc_vcpu_state> out = OddStates();
  for (tsc_vcpu_state& state : out) state.tsc_offset_ticks = offset_ticks;
  return out;
}

tsc_kvm_target AnyKernel::Target(uint32_t flags, bool realtime) const {
  tsc_kvm_target out = {};
  out.flags = flags;
  out.vcpu_count = count();
  out.host_tsc_khz = traits().host_khz;
  out.host_tsc_ticks = vm_->kernel()->rdtsc(vm_->kernel()->ctx);
  if (realtime) out.realtime_ns = vm_->RealtimeNs();
  out.kvmclock_ns = 86'400'000'000'000;
  return out;
}

void AnyKernel::GiveItAPast() {
  std::vector<tsc_vcpu_state> states = OddStates();
  for (tsc_vcpu_state& state : states) {
    state.tsc_khz = traits().tsc_control ? traits().host_khz / 2 : traits().host_khz + 5;
  }
  ASSERT_EQ(access_->Apply(Target(TSC_TARGET_WRITE_KHZ | TSC_TARGET_WRITE_KVMCLOCK), states)
                .fault.outcome,
            TSC_KVM_OK);
  for (uint32_t i = 0; i < count(); ++i) {
    absl::StatusOr<uint64_t> guest_now = ReadMsr(vm_->kernel(), FdAt(i), kMsrTsc);
    ASSERT_TRUE(guest_now.ok()) << guest_now.status();
    absl::Status armed =
        WriteMsr(vm_->kernel(), FdAt(i), kMsrTscDeadline, *guest_now + kFarAheadTicks);
    ASSERT_TRUE(armed.ok()) << armed;
  }
}

void AnyKernel::RunAll() {
  for (uint32_t i = 0; i < count(); ++i) {
    absl::StatusOr<GuestReading> reading = vm_->RunOnce(i);
    ASSERT_TRUE(reading.ok()) << reading.status();
  }
}

VmSnapshot AnyKernel::Snapshot() {
  absl::StatusOr<VmSnapshot> out = TakeSnapshot(vm_->kernel(), vm_->vm());
  EXPECT_TRUE(out.ok()) << out.status();
  if (!out.ok()) return {};
  for (uint32_t i = 0; i < count(); ++i) {
    absl::StatusOr<Oracle> oracle = vm_->ReadOracle(i);
    if (oracle.ok()) out->vcpus[i].ratio = oracle->ratio;
  }
  return *out;
}

void AnyKernel::ExpectAsBefore(const VmSnapshot& before) {
  VmSnapshot now = Snapshot();
  ASSERT_EQ(now.vcpus.size(), before.vcpus.size());
  for (size_t i = 0; i < now.vcpus.size(); ++i) {
    EXPECT_EQ(now.vcpus[i].offset_ticks, before.vcpus[i].offset_ticks)
        << "vCPU " << now.vcpus[i].id;
    EXPECT_EQ(now.vcpus[i].khz, before.vcpus[i].khz) << "vCPU " << now.vcpus[i].id;
    EXPECT_EQ(now.vcpus[i].adjust_ticks, before.vcpus[i].adjust_ticks)
        << "vCPU " << now.vcpus[i].id;
    EXPECT_EQ(now.vcpus[i].deadline_ticks, before.vcpus[i].deadline_ticks)
        << "vCPU " << now.vcpus[i].id;
    EXPECT_EQ(now.vcpus[i].ratio, before.vcpus[i].ratio) << "vCPU " << now.vcpus[i].id;
    absl::StatusOr<Oracle> oracle = vm_->ReadOracle(static_cast<uint32_t>(i));
    if (oracle.ok()) {
      EXPECT_EQ(oracle->offset_ticks, before.vcpus[i].offset_ticks) << "vCPU " << now.vcpus[i].id;
    }
  }
  int64_t moved_ns = KvmclockMovedNs(before.kvmclock, now.kvmclock, traits().host_khz);
  EXPECT_LE(std::abs(moved_ns), traits().kvmclock_slack_ns) << "kvmclock moved";
}

void AnyKernel::ExpectNoWrites() {
  for (const LoggedCall& call : vm_->interposer().Log()) {
    EXPECT_FALSE(call.writes) << "request " << std::hex << call.request << std::dec << " on vCPU "
                              << call.vcpu_id;
  }
}

void AnyKernel::ExpectOffsetsInForce(const std::vector<tsc_vcpu_state>& wanted) {
  for (uint32_t i = 0; i < count(); ++i) {
    absl::StatusOr<Oracle> oracle = vm_->ReadOracle(i);
    if (oracle.ok()) {
      EXPECT_EQ(oracle->offset_ticks, wanted[i].tsc_offset_ticks) << "vCPU " << IdAt(i);
    }
  }
}

const char* StepName(uint32_t step, bool direct) {
  if (!direct && step == TSC_STEP_VERIFY_OFFSET) step = TSC_STEP_READ_OFFSET;
  if (!direct && step == TSC_STEP_VERIFY_MSRS) step = TSC_STEP_READ_MSRS;
  if (!direct && step == TSC_STEP_VERIFY_KVMCLOCK) step = TSC_STEP_READ_KVMCLOCK;
  static constexpr const char* kNames[] = {"none",         "read offset",    "read MSRs",
                                           "read kHz",     "read kvmclock",  "write kHz",
                                           "write offset", "write MSRs",     "verify offset",
                                           "verify MSRs",  "write kvmclock", "verify kvmclock"};
  return step < std::size(kNames) ? kNames[step] : "unknown";
}

}  // namespace tsc_handoff::contract
