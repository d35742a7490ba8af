// How far the agents trust the hosts' clocks, and what they do when these are wrong: probes, waits,
// refusals, one host's own TSC, health.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/service/pair.h"
#include "tests/service/raw_rpc.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;

// A request whose source is to be probed.
v1::SetTscStateRequest Probed(Pair& pair) {
  v1::SetTscStateRequest request = pair.Request();
  request.set_source_agent(pair.source->address());
  return request;
}

void ExpectRefusedWithoutAChange(Pair& pair, const v1::SetTscStateRequest& request, StatusCode code,
                                 const std::string& reason) {
  const Snapshot before = Look(*pair.destination_vm);
  ExpectRefused(pair.to->SetTscState(request).status(), code, reason);
  ExpectUnchanged(*pair.destination_vm, before);
}

TEST(Probe, NarrowsTheBoundToWhatWasMeasured) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  // Both hosts admit 400 us; the probe, through a network that takes no time here, knows better.
  pair.source->clock().Trust(400'000);
  pair.destination->clock().Trust(400'000);
  const auto applied = pair.to->SetTscState(Probed(pair));
  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
  EXPECT_EQ(applied->elapsed_basis(), v1::ELAPSED_BASIS_CLOCKS_AND_PROBE);
  EXPECT_LT(applied->error_bound().total_ns(), 20'000u);
  EXPECT_EQ(applied->error_bound().source_clock_ns(), 0u);
  EXPECT_FALSE(HasWarning(applied->warnings(), v1::Warning::CODE_CLOCKS_NOT_PROBED));
  ASSERT_TRUE(applied->has_probe());
  EXPECT_EQ(applied->probe().rounds(), 8u);
  // The destination's clock is 11 us ahead of the source's.
  EXPECT_NEAR(static_cast<double>(applied->probe().offset_ns()), 11'000,
              static_cast<double>(applied->probe().offset_error_ns()));
}

TEST(Probe, IsMissedWhenItIsNotAskedFor) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto applied = pair.to->SetTscState(pair.Request());
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->elapsed_basis(), v1::ELAPSED_BASIS_CLOCKS);
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_CLOCKS_NOT_PROBED));
  EXPECT_FALSE(applied->has_probe());
}

TEST(Probe, CatchesAStepThatTheHostsOwnWordHides) {
  for (const int64_t step_ns : {300 * kMs, -300 * kMs, 3600 * kSecond, -3600 * kSecond}) {
    for (const bool source : {true, false}) {
      SCOPED_TRACE(testing::Message() << (source ? "source" : "destination") << " " << step_ns);
      PairOptions options;
      options.destination.agent.limits.max_elapsed_ns = 7200 * kSecond;
      Pair pair(options);
      ASSERT_TRUE(pair.ok());
      sim::SimNode& node = source ? *pair.source : *pair.destination;
      if (source) node.host().clock().SetRealtimeErrorNs(step_ns);
      const v1::SetTscStateRequest request = Probed(pair);
      if (!source) node.host().clock().SetRealtimeErrorNs(step_ns);
      ExpectRefusedWithoutAChange(pair, request, StatusCode::kFailedPrecondition,
                                  "CLOCKS_DISAGREE");
    }
  }
}

TEST(Probe, SourceThatWasSteppedSinceTheCaptureDoesNoHarm) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = Probed(pair);
  // The state's own reading of the clock was right, and the source's TSC still tells the time.
  pair.source->host().clock().SetRealtimeErrorNs(3600 * kSecond);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
}

TEST(Probe, OfAnotherAgentThanTheStatesSourceIsRefused) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  request.set_source_agent(pair.destination->address());
  ExpectRefusedWithoutAChange(pair, request, StatusCode::kUnavailable, "PEER_UNREACHABLE");
  EXPECT_THAT(std::string(pair.to->SetTscState(request).status().message()),
              HasSubstr("is not the one that captured the state"));
}

TEST(Probe, OfNobodyIsRefused) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = Probed(pair);
  pair.source->StopAgent();
  ExpectRefusedWithoutAChange(pair, request, StatusCode::kUnavailable, "PEER_UNREACHABLE");
}

TEST(Probe, AddressIsChecked) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  for (const std::string address : {"unix:/tmp/x", "host", "host:0", "host:65536", ":1",
                                    "dns:///host:1", "a b:1", "host:1/x"}) {
    SCOPED_TRACE(address);
    v1::SetTscStateRequest request = pair.Request();
    request.set_source_agent(address);
    ExpectRefused(pair.to->SetTscState(request).status(), StatusCode::kInvalidArgument,
                  "REQUEST_INVALID");
    EXPECT_FALSE(pair.to->CompareClocks(address).ok());
  }
}

TEST(Probe, IsRequiredWhereTheAgentSaysSo) {
  PairOptions options;
  options.destination.agent.limits.require_probe = true;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  ExpectRefusedWithoutAChange(pair, request, StatusCode::kInvalidArgument, "REQUEST_INVALID");
  request.set_mode(v1::APPLY_MODE_EXACT);
  EXPECT_TRUE(pair.to->SetTscState(request).ok()) << "no clock is needed";
  request.set_mode(v1::APPLY_MODE_ELAPSED);
  request.set_source_agent(pair.source->address());
  EXPECT_TRUE(pair.to->SetTscState(request).ok());
}

TEST(Compare, PutsClaimsBesideWhatWasMeasured) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto compared = pair.to->CompareClocks(pair.source->address());
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_EQ(compared->verdict(), v1::CompareClocksResponse::VERDICT_AGREE);
  EXPECT_NEAR(static_cast<double>(compared->probe().offset_ns()), 11'000,
              static_cast<double>(compared->probe().offset_error_ns()));
  EXPECT_TRUE(compared->local().trusted());
  EXPECT_TRUE(compared->peer().trusted());
  EXPECT_GE(compared->peer().error_bound_ns(), 20'000u);

  pair.source->host().clock().SetRealtimeErrorNs(-kMs);
  EXPECT_EQ(pair.to->CompareClocks(pair.source->address())->verdict(),
            v1::CompareClocksResponse::VERDICT_DISAGREE);
  pair.source->clock().Distrust("for the test");
  EXPECT_EQ(pair.to->CompareClocks(pair.source->address())->verdict(),
            v1::CompareClocksResponse::VERDICT_NO_CLAIM);
}

TEST(HostInfo, TellsWhereOtherAgentsReachThisOne) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(pair.from->GetHostInfo()->peer_address(), pair.source->address());
}

// Applies right after the capture, so that the clocks' bounds leave in doubt that time has passed.
v1::SetTscStateRequest AtOnce(Pair& pair) {
  v1::SetTscStateRequest request = pair.Request();
  auto captured = pair.from->GetTscState(pair.source_vm->vm_id());
  EXPECT_TRUE(captured.ok()) << captured.status();
  *request.mutable_state() = captured->state();
  return request;
}

TEST(CommitWait, LastsUntilTimeHasCertainlyPassed) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto applied = pair.to->SetTscState(AtOnce(pair));
  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
  EXPECT_GT(applied->commit_wait_ns(), 20'000u) << "the bounds are 20 us each";
  EXPECT_LT(applied->commit_wait_ns(), 100'000u);
  EXPECT_GE(applied->elapsed_ns(), static_cast<int64_t>(applied->error_bound().total_ns()));
}

TEST(CommitWait, IsNotNeededAfterALongerBlackout) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto applied = pair.to->SetTscState(pair.Request());
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->commit_wait_ns(), 0u);
}

TEST(CommitWait, BeyondItsLimitIsRefused) {
  PairOptions options;
  options.destination.agent.limits.max_commit_wait_ns = 10'000;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  ExpectRefusedWithoutAChange(pair, AtOnce(pair), StatusCode::kFailedPrecondition,
                              "TIME_WOULD_GO_BACK");
}

TEST(CommitWait, BeyondTheDeadlineIsRefusedAtOnce) {
  PairOptions options;
  options.destination.agent.limits.max_commit_wait_ns = 3600 * kSecond;
  options.destination.agent.limits.max_error_ns = 3600 * kSecond;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  pair.source->clock().Trust(60 * kSecond);  // the client's deadline is nearer
  ExpectRefusedWithoutAChange(pair, AtOnce(pair), StatusCode::kFailedPrecondition,
                              "TIME_WOULD_GO_BACK");
}

TEST(SameHost, IsExactWithoutAnyClock) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto captured = pair.Capture();
  const Snapshot before = Look(*pair.source_vm);
  pair.source->clock().Distrust("for the test");
  pair.source->host().clock().SetRealtimeErrorNs(-3600 * kSecond);
  v1::SetTscStateRequest request;
  request.set_vm_id(pair.source_vm->vm_id());
  *request.mutable_state() = captured.state();
  request.set_mode(v1::APPLY_MODE_ELAPSED);
  request.set_max_error_ns(1);
  const auto applied = pair.from->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->elapsed_basis(), v1::ELAPSED_BASIS_SAME_HOST_TSC);
  EXPECT_EQ(applied->error_bound().total_ns(), 0u);
  EXPECT_NEAR(static_cast<double>(applied->elapsed_ns()), 50 * kMs, kMs);
  ExpectUnchanged(*pair.source_vm, before, /*kvmclock_tolerance_ns=*/1'000);
}

TEST(SameHost, EndsWithItsBoot) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request;
  request.set_vm_id(pair.source_vm->vm_id());
  *request.mutable_state() = Changed(
      pair.Capture().state(), [](time::TscState& state) { state.boot_id = std::string(16, 'x'); });
  request.set_mode(v1::APPLY_MODE_ELAPSED);
  const auto applied = pair.from->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->elapsed_basis(), v1::ELAPSED_BASIS_CLOCKS);
}

TEST(LeapSecond, IsRefusedWithoutTai) {
  PairOptions options;
  options.source.host.clock.tai_offset_s = 0;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  pair.destination->clock().SetLeapSecond(true);
  const v1::SetTscStateRequest request = pair.Request();
  ExpectRefusedWithoutAChange(pair, request, StatusCode::kFailedPrecondition, "CLOCK_UNTRUSTED");
  EXPECT_THAT(std::string(pair.to->SetTscState(request).status().message()),
              HasSubstr("leap second"));
}

TEST(LeapSecond, OfTheSourceTravelsWithTheState) {
  PairOptions options;
  options.destination.host.clock.tai_offset_s = 0;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  pair.source->clock().SetLeapSecond(true);
  const v1::SetTscStateRequest request = pair.Request();
  pair.source->clock().SetLeapSecond(false);
  ExpectRefusedWithoutAChange(pair, request, StatusCode::kFailedPrecondition, "CLOCK_UNTRUSTED");
}

TEST(LeapSecond, SmearedOnOneSideOnlyIsFoundByTheProbe) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  // The source's servers smear: in the middle of it its clock is half a second off, and says
  // nothing.
  pair.source->host().clock().SetRealtimeErrorNs(-kSecond / 2);
  ExpectRefusedWithoutAChange(pair, Probed(pair), StatusCode::kFailedPrecondition,
                              "CLOCKS_DISAGREE");
}

TEST(UntrustedClock, WhoMayNotAcceptItIsToldWhoForbidsIt) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = pair.Request();
  pair.destination->clock().Distrust("for the test");
  request.set_allow_untrusted_clock(true);
  ExpectRefusedWithoutAChange(pair, request, StatusCode::kFailedPrecondition, "CLOCK_UNTRUSTED");
  EXPECT_THAT(std::string(pair.to->SetTscState(request).status().message()),
              HasSubstr("--permit-untrusted-clock"));
}

TEST(UntrustedClock, AcceptedWithAProbeStillHasABound) {
  PairOptions options;
  options.destination.agent.limits.permit_untrusted_clock = true;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  v1::SetTscStateRequest request = Probed(pair);
  pair.destination->clock().Distrust("for the test");
  pair.destination->host().clock().SetRealtimeErrorNs(3600 * kSecond);
  request.set_allow_untrusted_clock(true);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_CLOCK_UNTRUSTED));
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
}

TEST(RateError, OfAGuestThatIsNotScaledIsSaid) {
  PairOptions options;
  options.destination.host.clock.tsc_khz = 2'100'210;  // 100 ppm: KVM does not scale
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  const auto applied = pair.to->SetTscState(pair.Request());
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_DOUBLE_EQ(applied->rate_error_ppm(), 100);
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_RATE_NOT_SCALED));
}

// The answer of grpc.health.v1.Health/Check: SERVING 1, NOT_SERVING 2.
int Health(const Pair& pair, const std::string& service) {
  std::string request;
  if (!service.empty()) request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  const auto answer = RawUnary(pair.to->target(), "/grpc.health.v1.Health/Check", request);
  return answer.ok() && answer->size() == 2 ? (*answer)[1] : 0;
}

TEST(Health, SaysNotServingForHandoffsWhileTheClockIsNotTrusted) {
  constexpr char kService[] = "tschandoff.v1.TscAgent";
  Pair pair;
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(Health(pair, kService), 1);
  pair.destination->clock().Distrust("for the test");
  EXPECT_TRUE(Await([&] { return Health(pair, kService) == 2; }));
  EXPECT_EQ(Health(pair, ""), 1) << "the agent itself goes on";
  EXPECT_TRUE(pair.to->GetHostInfo().ok());
  EXPECT_TRUE(pair.to->GetTscState("vm").ok());
  pair.destination->clock().Trust(20'000);
  EXPECT_TRUE(Await([&] { return Health(pair, kService) == 1; }));
}

}  // namespace
}  // namespace tsc_handoff
