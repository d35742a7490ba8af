// What an apply can be asked to do otherwise, and what the agent says of host and VM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/service/pair.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff {
namespace {

using testing::Each;

TEST(ExactMode, GivesTheCapturedValuesAtTheReferenceWhateverTheClocks) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  std::vector<uint64_t> captured;
  *request.mutable_state() = Changed(request.state(), [&](time::TscState& state) {
    for (const time::VcpuTsc& vcpu : state.vcpus) captured.push_back(vcpu.guest_tsc_ticks);
    state.reference.reset();
  });
  request.set_mode(v1::APPLY_MODE_EXACT);
  pair.destination->clock().Distrust("test");
  pair.destination->host().clock().SetRealtimeErrorNs(-1'000'000'000);
  pair.time->Advance(1'000'000'000'000);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->elapsed_ns(), 0);
  EXPECT_FALSE(applied->has_error_bound());
  EXPECT_EQ(applied->phase_error_ticks(), 0u);
  for (int i = 0; i < applied->vcpus_size(); ++i)
    EXPECT_EQ(applied->vcpus(i).guest_tsc_ticks(), captured[static_cast<size_t>(i)]);
  EXPECT_THAT(pair.TrueErrorTicks(), Each(pair.TrueErrorTicks().front()));
}

TEST(Equalise, GivesAllTheValueFurthestAhead) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  request.set_equalise(true);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_EQUALISED));
  EXPECT_FALSE(HasWarning(applied->warnings(), v1::Warning::CODE_MASTER_CLOCK_OFF));
  EXPECT_THAT(pair.destination_vm->Offsets(), Each(pair.destination_vm->Offsets().front()));
  // vCPU 3 was furthest ahead; no vCPU goes back.
  const std::vector<int64_t> errors = pair.TrueErrorTicks();
  EXPECT_LE(std::abs(TicksToNs(errors[3], 2'100'000)), applied->error_bound().total_ns());
  EXPECT_GT(errors[0], 1'000'000'007 - 100'000);
  EXPECT_EQ(applied->phase_error_ticks(), 1'000'000'019u);
}

TEST(ValidateOnly, ShowsWhatWouldBeWrittenAndWritesNothing) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  request.set_validate_only(true);
  const Snapshot before = Look(*pair.destination_vm);
  pair.destination->host().ClearCalls();
  const auto validated = pair.to->SetTscState(request);
  ASSERT_TRUE(validated.ok()) << validated.status();
  EXPECT_TRUE(validated->validated_only());
  EXPECT_EQ(validated->vcpus_size(), 4);
  EXPECT_TRUE(validated->has_error_bound());
  EXPECT_FALSE(validated->kvmclock().moved());
  for (const sim::SimCall& call : pair.destination->host().Calls()) {
    EXPECT_THAT(call.request,
                testing::AnyOf(KVM_GET_DEVICE_ATTR, KVM_GET_MSRS, KVM_GET_TSC_KHZ, KVM_GET_CLOCK));
  }
  ExpectUnchanged(*pair.destination_vm, before);
  // It finds a running VM too.
  ASSERT_TRUE(pair.destination_vm->Resume().ok());
  ExpectRefused(pair.to->SetTscState(request).status(), absl::StatusCode::kFailedPrecondition,
                "VM_RUNNING");
}

TEST(KeepKvmclock, MovesTheTscsOnly) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  request.set_keep_kvmclock(true);
  const Snapshot before = Look(*pair.destination_vm);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_FALSE(applied->kvmclock().moved());
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_KVMCLOCK_KEPT));
  const Snapshot after = Look(*pair.destination_vm);
  EXPECT_NEAR(static_cast<double>(after.kvmclock_ns - before.kvmclock_ns),
              static_cast<double>(after.true_ns - before.true_ns), 1);
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
}

TEST(RepeatedApply, GivesTheSameTscsUpToTheBound) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  for (int i = 0; i < 3; ++i) {
    const auto applied = pair.to->SetTscState(request);
    ASSERT_TRUE(applied.ok()) << applied.status();
    ExpectTrueErrorWithin(pair, *applied, 2'100'000);
    pair.time->Advance(777'777'777);
  }
}

TEST(UntrustedClock, AcceptedWhereTheAgentPermitsItAndSaid) {
  PairOptions options;
  options.destination.agent.limits.permit_untrusted_clock = true;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  pair.destination->clock().Distrust("test");
  v1::SetTscStateRequest request = pair.Request();
  request.set_allow_untrusted_clock(true);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_CLOCK_UNTRUSTED));
  EXPECT_FALSE(applied->has_error_bound());
}

TEST(HigherError, AcceptedWhereTheAgentPermitsIt) {
  PairOptions options;
  options.destination.agent.limits.permit_higher_error = true;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  pair.destination->clock().Trust(1'500'000);
  v1::SetTscStateRequest request = pair.Request();
  request.set_max_error_ns(2'000'000);
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
}

TEST(UnknownTai, IsSaid) {
  PairOptions options;
  options.source.host.clock.tai_offset_s = 0;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  const auto applied = pair.to->SetTscState(pair.Request());
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_TAI_UNKNOWN));
}

TEST(LeapSecond, DoesNotMoveGuestTimeWhereTaiIsKnown) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  // After the capture a second was inserted: CLOCK_REALTIME went back by one, TAI did not.
  sim::HostClock& clock = pair.destination->host().clock();
  clock.SetRealtimeErrorNs(7'000 - 1'000'000'000);
  clock.SetTaiOffsetS(38);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
}

TEST(HostInfo, SaysThatItIsSimulatedAndWhatItCanDo) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto info = pair.to->GetHostInfo();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_TRUE(info->simulated());
  EXPECT_EQ(info->host_name(), "destination");
  EXPECT_EQ(info->tsc_khz(), 3'500'000u);
  EXPECT_TRUE(info->tsc_scaling());
  EXPECT_EQ(info->tsc_scaling_frac_bits(), 32u);
  EXPECT_TRUE(info->tsc_stable());
  EXPECT_TRUE(info->kvm_available());
  EXPECT_TRUE(info->clock().trusted());
  EXPECT_EQ(info->clock().status(), v1::ClockInfo::STATUS_SYNCHRONISED);
  EXPECT_GE(info->clock().error_bound_ns(), 20'000u);
  EXPECT_LT(info->clock().error_bound_ns(), 21'000u) << "and what the reading could hide";
  EXPECT_EQ(info->clock().tai_offset_s(), 37u);
  EXPECT_EQ(info->vm_count(), 1u);
}

TEST(RunState, IsAskedForByGetVm) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto run_state = [&] { return pair.to->GetVm("vm")->run_state(); };
  EXPECT_EQ(run_state(), v1::Vm::RUN_STATE_PAUSED);
  ASSERT_TRUE(pair.destination_vm->Resume().ok());
  EXPECT_EQ(run_state(), v1::Vm::RUN_STATE_RUNNING);
  pair.destination_vm->Pause();
  EXPECT_EQ(run_state(), v1::Vm::RUN_STATE_PAUSED);
}

}  // namespace
}  // namespace tsc_handoff
