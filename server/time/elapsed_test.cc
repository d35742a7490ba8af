// The time since a capture, the bound that an apply states, leap seconds, and values at the ends of
// their ranges.
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/time/elapsed.h"
#include "server/time/handoff_math.h"
#include "server/time/ticks.h"
#include "server/time/time_testing.h"

namespace tsc_handoff::time {
namespace {

// --- The bound ---

TEST(ErrorBoundTest, PartsAndSum) {
  TscState state = StateAt(kNow, {1000});
  state.reference->read_error_ns = 11;
  state.reference->clock_error_ns = 200;
  TimeReference destination = At(kNow + kSecond, 700);
  destination.read_error_ns = 13;
  destination.clock_error_ns = 400;
  const auto elapsed = ReckonElapsed(state, destination, TscScaling(), {});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_EQ(elapsed->bound->source_read_ns, 11);
  EXPECT_EQ(elapsed->bound->destination_read_ns, 13);
  EXPECT_EQ(elapsed->bound->source_clock_ns, 200);
  EXPECT_EQ(elapsed->bound->destination_clock_ns, 400);
  EXPECT_EQ(elapsed->bound->rate_ns, 50'001) << "50 ppm of a second and of the other parts";
  EXPECT_EQ(elapsed->bound->rounding_ns, 3) << "1 ns of each clock, and one of a tick";
  EXPECT_EQ(elapsed->bound->total_ns(), 11 + 13 + 200 + 400 + 50'001 + 3);
}

TEST(ErrorBoundTest, TheRateIsRoundedUp) {
  const auto bound = [](int64_t elapsed_ns) {
    TscState state = StateAt(kNow, {0});
    TimeReference destination = At(kNow + elapsed_ns, 0);
    for (TimeReference* reference : {&*state.reference, &destination}) {
      reference->read_error_ns = 0;
      reference->clock_error_ns = 0;
    }
    return ReckonElapsed(state, destination, TscScaling(), {})->bound->rate_ns;
  };
  // 3 ns of rounding count as time that may have passed, too.
  EXPECT_EQ(bound(0), 1);
  EXPECT_EQ(bound(19'997), 1);
  EXPECT_EQ(bound(19'998), 2);
}

TEST(ErrorBoundTest, ATickOfASlowGuestIsLong) {
  TscState state = StateAt(kNow, {1000});
  state.guest_khz = 300'000;  // 3.33 ns a tick
  EXPECT_EQ(ReckonElapsed(state, At(kNow, 700), TscScaling(), {})->bound->rounding_ns, 2 + 4);
}

TEST(ErrorBoundTest, AGuestThatIsNotScaledRanAtItsHostsRate) {
  TscState state = StateAt(kNow, {1000});
  state.guest_khz = kKhz + 650;  // 250 ppm: not scaled
  ApplyPolicy policy;
  policy.rate_uncertainty_ppm = 0;
  const auto rate_ns = [&] {
    return ReckonElapsed(state, At(kNow + kSecond, 700), TscScaling(), policy)->bound->rate_ns;
  };
  EXPECT_EQ(rate_ns(), 250'051) << "of a second and of the other parts";
  state.guest_khz = kKhz - 650;
  EXPECT_EQ(rate_ns(), 251'051) << "of the lower of both";
  state.guest_khz = kKhz + 651;  // scaled: runs at its own, but for the ratio's truncation
  EXPECT_EQ(rate_ns(), 1);
}

TEST(ErrorBoundTest, TheLimitIsInclusive) {
  const TscState state = StateAt(kNow, {1000});
  const TimeReference destination = At(kNow + kMs, 700);
  ApplyPolicy policy;
  const int64_t total_ns =
      ReckonElapsed(state, destination, TscScaling(), policy)->bound->total_ns();
  policy.max_error_ns = total_ns;
  EXPECT_TRUE(ReckonElapsed(state, destination, TscScaling(), policy).ok());
  policy.max_error_ns = total_ns - 1;
  const absl::Status status = ReckonElapsed(state, destination, TscScaling(), policy).status();
  EXPECT_EQ(ReasonOf(status), Reason::kClockBoundExceeded);
  EXPECT_EQ(MetadataOf(status)["error_bound_ns"], absl::StrCat(total_ns));
  EXPECT_EQ(MetadataOf(status)["limit"], absl::StrCat(total_ns - 1));
}

// A world in which true time is known: two hosts whose clocks and readings are off by as much as
// they admit, or less.
TEST(ErrorBoundTest, CoversTheTrueErrorAlways) {
  std::mt19937_64 random(99);
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  for (int i = 0; i < 5000; ++i) {
    const int64_t true_elapsed_ns = between(0, 300 * kSecond);
    TscState state = StateAt(0, {static_cast<uint64_t>(random())});
    TimeReference destination = At(0, random());
    state.reference->clock_error_ns = between(0, 3 * kMs);
    state.reference->read_error_ns = between(0, 500);
    destination.clock_error_ns = between(0, 3 * kMs);
    destination.read_error_ns = between(0, 500);
    const auto off = [&](const TimeReference& reference) {
      return between(-reference.clock_error_ns, reference.clock_error_ns) +
             between(-reference.read_error_ns, reference.read_error_ns);
    };
    state.reference->realtime_ns = kNow + off(*state.reference);
    destination.realtime_ns = kNow + true_elapsed_ns + off(destination);
    state.guest_khz = static_cast<uint32_t>(between(200'000, 4'000'000));
    // Unscaled hosts run up to 250 ppm beside the guest's rate, scaled ones at it; either is known
    // to 40 ppm.
    const int64_t beside_khz = int64_t{state.guest_khz} * between(-249, 249) / 1'000'000;
    state.reference->host_tsc_khz = static_cast<uint32_t>(state.guest_khz + beside_khz);
    const long double rate_khz = static_cast<long double>(state.reference->host_tsc_khz) *
                                 (1.0L + static_cast<long double>(between(-40, 40)) / 1e6L);
    ApplyPolicy policy;
    policy.max_error_ns = kMax;
    const auto elapsed = ReckonElapsed(state, destination, TscScaling(), policy);
    ASSERT_TRUE(elapsed.ok()) << elapsed.status();
    if (elapsed->elapsed_ns < 0) {
      ASSERT_LT(elapsed->earliest_ns, 0);
      continue;
    }
    const long double would_have_ticks =
        static_cast<long double>(true_elapsed_ns) * rate_khz / 1e6L;
    const long double error_ns =
        (static_cast<long double>(elapsed->elapsed_ticks) - would_have_ticks) * 1e6L /
        state.guest_khz;
    ASSERT_LE(std::abs(error_ns), static_cast<long double>(elapsed->bound->total_ns()))
        << "case " << i;
  }
}

// --- Leap seconds ---

TEST(LeapSecondTest, WithTaiOnBothSidesItDoesNotCount) {
  // A second was inserted: REALTIME repeated it, so it shows 1 s less than has passed.
  const TscState state = StateAt(kNow, {1000});
  TimeReference after = At(kNow + 2 * kSecond - kSecond, 700);
  after.tai_offset_s = 38;
  ApplyPolicy policy;
  EXPECT_EQ(ReckonElapsed(state, after, TscScaling(), policy)->elapsed_ns, 2 * kSecond);
  // Within the repeated second REALTIME alone would even go back.
  after.realtime_ns = kNow - kSecond / 2;
  EXPECT_EQ(ReckonElapsed(state, after, TscScaling(), policy)->elapsed_ns, kSecond / 2);
  // A second was deleted.
  after = At(kNow + 2 * kSecond + kSecond, 700);
  after.tai_offset_s = 36;
  EXPECT_EQ(ReckonElapsed(state, after, TscScaling(), policy)->elapsed_ns, 2 * kSecond);
}

TEST(LeapSecondTest, WithoutTaiOnOneSideRealtimeCounts) {
  for (const bool source : {true, false}) {
    TscState state = StateAt(kNow, {1000});
    TimeReference destination = At(kNow + kMs, 700);
    (source ? *state.reference : destination).tai_offset_s = 0;
    const auto elapsed = ReckonElapsed(state, destination, TscScaling(), {});
    ASSERT_TRUE(elapsed.ok()) << elapsed.status();
    EXPECT_FALSE(elapsed->used_tai);
    EXPECT_EQ(elapsed->elapsed_ns, kMs) << "37 s must not be taken for elapsed time";
  }
}

TEST(LeapSecondTest, IsRefusedWithoutTaiOnBothSides) {
  struct Row {
    bool source_leap, destination_leap;
    int32_t source_tai_s, destination_tai_s;
    const char* refused;  // the side, or empty
  };
  for (const Row& row : {Row{false, false, 0, 0, ""}, Row{true, false, 37, 37, ""},
                         Row{true, true, 37, 37, ""}, Row{true, false, 0, 37, "source"},
                         Row{true, false, 37, 0, "source"}, Row{false, true, 37, 0, "destination"},
                         Row{false, true, 0, 37, "destination"}, Row{true, true, 0, 0, "source"}}) {
    TscState state = StateAt(kNow, {1000});
    TimeReference destination = At(kNow + kMs, 700);
    state.reference->leap_second = row.source_leap;
    state.reference->tai_offset_s = row.source_tai_s;
    destination.leap_second = row.destination_leap;
    destination.tai_offset_s = row.destination_tai_s;
    const absl::Status status = ReckonElapsed(state, destination, TscScaling(), {}).status();
    if (*row.refused == 0) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_EQ(ReasonOf(status), Reason::kClockUntrusted) << status;
    EXPECT_EQ(MetadataOf(status)["side"], row.refused);
    EXPECT_NE(status.message().find("leap second"), absl::string_view::npos) << status;
  }
}

// --- The probe ---

// The source's TSC is at 5,000,000 ticks at the capture (time_testing.h). When this host's TSC read
// 1,000,000, the source's was `since_ns` further, give or take `half_ns`.
ClockProbe ProbedAt(int64_t since_ns, int64_t half_ns) {
  ClockProbe probe;
  probe.local_tsc_ticks = 1'000'000;
  probe.local_khz = kKhz;
  probe.peer_tsc_ticks = 5'000'000 + NsToTicks(since_ns, kKhz);
  probe.peer_khz = kKhz;
  probe.lower_ns = -half_ns;
  probe.upper_ns = half_ns;
  return probe;
}

// A destination at the probe's instant whose wall clock says that `wall_ns` have passed.
TimeReference DestinationAt(int64_t wall_ns) { return At(kNow + wall_ns, 1'000'000); }

TEST(ProbedElapsedTest, ATighterProbeTakesTheBoundsPlace) {
  const TscState state = StateAt(kNow, {1000});
  const auto elapsed = ReckonElapsed(state, DestinationAt(kSecond + 90'000), TscScaling(), {},
                                     {.same_host = false, .probe = ProbedAt(kSecond, 20'000)});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_EQ(elapsed->basis, ElapsedBasis::kClocksAndProbe);
  EXPECT_NEAR(static_cast<double>(elapsed->elapsed_ns), kSecond, 2)
      << "the wall clock is corrected";
  EXPECT_NEAR(static_cast<double>(elapsed->bound->probe_ns), 20'000, 5);
  EXPECT_EQ(elapsed->bound->source_clock_ns, 0);
  EXPECT_EQ(elapsed->bound->destination_clock_ns, 0);
  EXPECT_EQ(elapsed->bound->source_read_ns, 0);
  EXPECT_EQ(elapsed->bound->destination_read_ns, 0);
  EXPECT_EQ(elapsed->bound->rate_ns, 0) << "the guest's own TSC was counted";
  EXPECT_EQ(elapsed->bound->total_ns(), elapsed->bound->probe_ns + elapsed->bound->rounding_ns);
}

TEST(ProbedElapsedTest, AWiderProbeChangesNothing) {
  const TscState state = StateAt(kNow, {1000});
  const auto without = ReckonElapsed(state, DestinationAt(kSecond), TscScaling(), {});
  const auto with = ReckonElapsed(state, DestinationAt(kSecond), TscScaling(), {},
                                  {.same_host = false, .probe = ProbedAt(kSecond, kMs)});
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(with->basis, ElapsedBasis::kClocks);
  EXPECT_EQ(with->elapsed_ns, without->elapsed_ns);
  EXPECT_EQ(with->bound->total_ns(), without->bound->total_ns());
}

TEST(ProbedElapsedTest, OverlappingIntervalsAreIntersected) {
  const TscState state = StateAt(kNow, {1000});
  const TimeReference destination = DestinationAt(kSecond);
  const int64_t claimed_ns = ReckonElapsed(state, destination, TscScaling(), {})->bound->total_ns();
  // From 100,000 ns before the end of what the clocks allow to far beyond it.
  const auto elapsed =
      ReckonElapsed(state, destination, TscScaling(), {},
                    {.same_host = false, .probe = ProbedAt(kSecond + claimed_ns, 100'000)});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_NEAR(static_cast<double>(elapsed->elapsed_ns),
              static_cast<double>(kSecond + claimed_ns - 50'000), 5);
  EXPECT_NEAR(static_cast<double>(elapsed->bound->probe_ns), 50'000, 5);
}

TEST(ProbedElapsedTest, DisjointIntervalsAreRefusedInBothDirections) {
  const TscState state = StateAt(kNow, {1000});
  for (const int64_t step_ns : {300 * kMs, -300 * kMs, 3600 * kSecond, -3600 * kSecond}) {
    ApplyPolicy policy;
    policy.max_elapsed_ns = kMax;
    policy.max_error_ns = kMax;
    const absl::Status status =
        ReckonElapsed(state, DestinationAt(kSecond + step_ns), TscScaling(), policy,
                      {.same_host = false, .probe = ProbedAt(kSecond, 20'000)})
            .status();
    EXPECT_EQ(ReasonOf(status), Reason::kClocksDisagree) << status;
    const long double gap_ns = std::stold(MetadataOf(status)["gap_ns"]);
    EXPECT_GT(gap_ns, 0);
    EXPECT_LT(gap_ns, static_cast<long double>(std::abs(step_ns)));
  }
}

TEST(ProbedElapsedTest, WhatHasPassedSinceTheProbeCountsWithItsRateError) {
  const TscState state = StateAt(kNow, {1000});
  TimeReference destination = DestinationAt(2 * kSecond);
  destination.host_tsc_ticks += NsToTicks(kSecond, kKhz);
  const auto elapsed = ReckonElapsed(state, destination, TscScaling(), {},
                                     {.same_host = false, .probe = ProbedAt(kSecond, 20'000)});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_NEAR(static_cast<double>(elapsed->elapsed_ns), 2 * kSecond, 2);
  EXPECT_NEAR(static_cast<double>(elapsed->bound->probe_ns), 20'000 + 100'000, 5)
      << "50 ppm of each host";
}

TEST(ProbedElapsedTest, WithAnAcceptedUntrustedClockTheProbeAloneBounds) {
  TscState state = StateAt(kNow, {1000});
  state.reference->clock_trusted = false;
  const auto elapsed = ReckonElapsed(state, DestinationAt(3600 * kSecond), TscScaling(),
                                     {.allow_untrusted_clock = true},
                                     {.same_host = false, .probe = ProbedAt(kSecond, 20'000)});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_TRUE(elapsed->accepted_untrusted_clock);
  EXPECT_NEAR(static_cast<double>(elapsed->elapsed_ns), kSecond, 2);
  ASSERT_TRUE(elapsed->bound.has_value());
}

TEST(ProbedElapsedTest, AnUntrustedClockIsRefusedHoweverGoodTheProbe) {
  TscState state = StateAt(kNow, {1000});
  state.reference->clock_trusted = false;
  EXPECT_EQ(ReasonOf(ReckonElapsed(state, DestinationAt(kSecond), TscScaling(), {},
                                   {.same_host = false, .probe = ProbedAt(kSecond, 20'000)})
                         .status()),
            Reason::kClockUntrusted);
}

TEST(ProbedElapsedTest, AScaledGuestPaysForItsTruncatedRatio) {
  TscState state = StateAt(kNow, {1000});
  state.guest_khz = kKhz / 2;
  const auto elapsed =
      ReckonElapsed(state, DestinationAt(200 * kSecond), TscScaling(), {.max_error_ns = kMax},
                    {.same_host = false, .probe = ProbedAt(200 * kSecond, 20'000)});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  // 200 s / 2^32 / 0.5 is 93 ns.
  EXPECT_EQ(elapsed->bound->rate_ns, 94);
}

// --- The same host ---

TEST(SameHostTest, TheTscAloneTellsTheTimeExactly) {
  TscState state = StateAt(kNow, {1000});
  state.reference->clock_trusted = false;
  state.guest_khz = 1'749'956;
  const TscScaling scaling =
      TscScaling::For({.host_khz = kKhz, .can_scale = true, .frac_bits = 32}, state.guest_khz)
          .value();
  // The wall clock was set back by an hour meanwhile, and nobody trusts it.
  TimeReference destination = At(kNow - 3600 * kSecond, 5'000'000 + NsToTicks(kSecond, kKhz));
  destination.clock_trusted = false;
  const auto elapsed = ReckonElapsed(state, destination, scaling, {.max_error_ns = 1},
                                     {.same_host = true, .probe = {}});
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_EQ(elapsed->basis, ElapsedBasis::kSameHostTsc);
  EXPECT_EQ(elapsed->elapsed_ns, kSecond);
  EXPECT_EQ(elapsed->elapsed_ticks,
            scaling.Scale(destination.host_tsc_ticks) - scaling.Scale(5'000'000));
  EXPECT_EQ(elapsed->bound->total_ns(), 0);
  EXPECT_FALSE(elapsed->accepted_untrusted_clock);
  // So every offset comes out as it was.
  const auto plan = PlanApply(state, destination, scaling, *elapsed, false);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->offsets[0].offset_ticks, 1000 - scaling.Scale(5'000'000));
}

TEST(SameHostTest, ATscThatWasResetIsRefused) {
  const TscState state = StateAt(kNow, {1000});
  EXPECT_EQ(ReasonOf(ReckonElapsed(state, At(kNow + kSecond, 4'999'999), TscScaling(), {},
                                   {.same_host = true, .probe = {}})
                         .status()),
            Reason::kTimeWouldGoBack);
}

TEST(SameHostTest, AnOldStateIsRefusedAllTheSame) {
  const TscState state = StateAt(kNow, {1000});
  EXPECT_EQ(ReasonOf(ReckonElapsed(state, At(kNow, 5'000'000 + NsToTicks(301 * kSecond, kKhz)),
                                   TscScaling(), {}, {.same_host = true, .probe = {}})
                         .status()),
            Reason::kElapsedOutOfRange);
}

TEST(SameHostTest, AScaledTscThatWrappedIsRefused) {
  TscState state = StateAt(kNow, {1000});
  state.reference->host_tsc_ticks = ~uint64_t{0} - 1'000;
  state.guest_khz = kKhz / 2;
  const TscScaling half =
      TscScaling::For({.host_khz = kKhz, .can_scale = true, .frac_bits = 48}, kKhz / 2).value();
  const TimeReference destination = At(kNow + kSecond, NsToTicks(kSecond, kKhz));
  const ElapsedEvidence same_host = {.same_host = true, .probe = {}};
  EXPECT_EQ(ReasonOf(ReckonElapsed(state, destination, half, {}, same_host).status()),
            Reason::kTimeWouldGoBack);
  // With this ratio the jump is ahead by a third of the circle, not back.
  const TscScaling other =
      TscScaling::For({.host_khz = kKhz, .can_scale = true, .frac_bits = 48}, kKhz * 7 / 10)
          .value();
  EXPECT_EQ(ReasonOf(ReckonElapsed(state, destination, other, {}, same_host).status()),
            Reason::kTimeWouldGoBack);
  EXPECT_TRUE(ReckonElapsed(state, destination, TscScaling(), {}, same_host).ok())
      << "unscaled it does no harm";
}

TEST(RateErrorTest, IsThatOfTheHostWhereKvmDoesNotScale) {
  EXPECT_DOUBLE_EQ(RateErrorPpm(TscScaling(), 2'600'260, 2'600'000), 100);
  EXPECT_DOUBLE_EQ(RateErrorPpm(TscScaling(), 2'599'740, 2'600'000), -100);
  EXPECT_DOUBLE_EQ(RateErrorPpm(TscScaling(), kKhz, kKhz), 0);
  const TscScaling half =
      TscScaling::For({.host_khz = kKhz, .can_scale = true, .frac_bits = 48}, kKhz / 2).value();
  EXPECT_DOUBLE_EQ(RateErrorPpm(half, kKhz, kKhz / 2), 0);
}

// --- Extremes: nothing may overflow (the sanitizer watches) ---

TEST(ExtremesTest, ElapsedTimeSaturates) {
  ApplyPolicy policy;
  policy.max_elapsed_ns = kMax;
  policy.max_error_ns = kMax;
  const auto elapsed = ReckonElapsed(StateAt(kMin, {1000}), At(kMax, 700), TscScaling(), policy);
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_EQ(elapsed->elapsed_ns, kMax);
  EXPECT_EQ(elapsed->elapsed_ticks, NsToTicks(kMax, kKhz));
  const auto back = ReckonElapsed(StateAt(kMax, {1000}), At(kMin, 700), TscScaling(), policy);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->elapsed_ns, kMin);
  EXPECT_EQ(back->earliest_ns, kMin);
  EXPECT_EQ(ReasonOf(CheckTimeHasPassed(*back)), Reason::kTimeWouldGoBack);
}

TEST(ExtremesTest, TaiOffsetsSaturate) {
  TscState state = StateAt(kNow, {1000});
  state.reference->tai_offset_s = std::numeric_limits<int32_t>::min();
  TimeReference destination = At(kNow, 700);
  destination.tai_offset_s = std::numeric_limits<int32_t>::max();
  ApplyPolicy policy;
  policy.max_elapsed_ns = kMax;
  policy.max_error_ns = kMax;
  const auto elapsed = ReckonElapsed(state, destination, TscScaling(), policy);
  ASSERT_TRUE(elapsed.ok()) << elapsed.status();
  EXPECT_EQ(elapsed->elapsed_ns, 4'294'967'295 * kSecond);
}

TEST(ExtremesTest, BoundsSaturateAndAreRefused) {
  TscState state = StateAt(kNow, {1000});
  state.reference->read_error_ns = kMax;
  state.reference->clock_error_ns = kMax;
  TimeReference destination = At(kNow + 200 * kSecond, 700);
  destination.read_error_ns = kMax;
  destination.clock_error_ns = kMax;
  ApplyPolicy policy;
  policy.rate_uncertainty_ppm = ~0u;
  const absl::Status status = ReckonElapsed(state, destination, TscScaling(), policy).status();
  EXPECT_EQ(ReasonOf(status), Reason::kClockBoundExceeded);
  EXPECT_EQ(MetadataOf(status)["error_bound_ns"], absl::StrCat(kMax));
}

// --- Refusals ---

TEST(ElapsedTest, TimeHasPassedOnlyWhenTheWorstCaseSaysSo) {
  const TscState state = StateAt(kNow, {1000});
  const auto reckon = [&](int64_t elapsed_ns, bool allow_untrusted_clock = false) {
    TimeReference destination = At(kNow + elapsed_ns, 700);
    destination.clock_trusted = !allow_untrusted_clock;
    return ReckonElapsed(state, destination, TscScaling(),
                         {.allow_untrusted_clock = allow_untrusted_clock})
        .value();
  };
  const int64_t error_ns = reckon(200'100).bound->total_ns();
  EXPECT_EQ(reckon(error_ns).earliest_ns, 0);
  EXPECT_TRUE(CheckTimeHasPassed(reckon(error_ns)).ok());
  const absl::Status status = CheckTimeHasPassed(reckon(error_ns - 1));
  EXPECT_EQ(ReasonOf(status), Reason::kTimeWouldGoBack);
  EXPECT_EQ(MetadataOf(status),
            (Metadata{{"elapsed_ns", absl::StrCat(error_ns - 1)}, {"earliest_ns", "-1"}}));
  // Accepting an untrusted clock does not accept going back.
  EXPECT_TRUE(CheckTimeHasPassed(reckon(0, true)).ok());
  EXPECT_EQ(ReasonOf(CheckTimeHasPassed(reckon(-1, true))), Reason::kTimeWouldGoBack);
}

TEST(ElapsedTest, TooMuchElapsedTimeIsRefused) {
  const TscState state = StateAt(kNow, {1000});
  ApplyPolicy policy;
  policy.max_error_ns = kMax;
  policy.max_elapsed_ns = 10 * kSecond;
  EXPECT_TRUE(ReckonElapsed(state, At(kNow + 10 * kSecond, 700), TscScaling(), policy).ok());
  const absl::Status status =
      ReckonElapsed(state, At(kNow + 10 * kSecond + 1, 700), TscScaling(), policy).status();
  EXPECT_EQ(ReasonOf(status), Reason::kElapsedOutOfRange);
  EXPECT_EQ(MetadataOf(status),
            (Metadata{{"elapsed_ns", "10000000001"}, {"limit", "10000000000"}}));
}

TEST(ElapsedTest, AnUntrustedClockOnEitherSideIsRefusedByName) {
  for (const bool source : {true, false}) {
    TscState state = StateAt(kNow, {1000});
    TimeReference destination = At(kNow + kMs, 700);
    (source ? *state.reference : destination).clock_trusted = false;
    const absl::Status status = ReckonElapsed(state, destination, TscScaling(), {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kClockUntrusted);
    EXPECT_EQ(MetadataOf(status)["side"], source ? "source" : "destination");

    const auto accepted =
        ReckonElapsed(state, destination, TscScaling(), {.allow_untrusted_clock = true});
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    EXPECT_TRUE(accepted->accepted_untrusted_clock);
    EXPECT_FALSE(accepted->bound.has_value()) << "no bound is stated that nobody vouches for";
    EXPECT_EQ(accepted->elapsed_ns, kMs);
  }
}

TEST(ElapsedTest, AllowingUntrustedClocksChangesNothingWhenBothAreTrusted) {
  const auto elapsed = ReckonElapsed(StateAt(kNow, {1000}), At(kNow + kMs, 700), TscScaling(),
                                     {.allow_untrusted_clock = true});
  ASSERT_TRUE(elapsed.ok());
  EXPECT_FALSE(elapsed->accepted_untrusted_clock);
  EXPECT_TRUE(elapsed->bound.has_value());
}

}  // namespace
}  // namespace tsc_handoff::time
