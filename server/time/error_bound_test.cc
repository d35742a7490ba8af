// The bound that an apply states, leap seconds, and values at the ends of their ranges.
#include <cmath>
#include <limits>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/time/handoff_math.h"
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
  const auto plan = PlanApply(state, destination, TscScaling(), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->bound->source_read_ns, 11);
  EXPECT_EQ(plan->bound->destination_read_ns, 13);
  EXPECT_EQ(plan->bound->source_clock_ns, 200);
  EXPECT_EQ(plan->bound->destination_clock_ns, 400);
  EXPECT_EQ(plan->bound->rate_ns, 50'000) << "50 ppm of a second";
  EXPECT_EQ(plan->bound->rounding_ns, 3) << "1 ns of each clock, and one of a tick";
  EXPECT_EQ(plan->bound->total_ns(), 11 + 13 + 200 + 400 + 50'000 + 3);
}

TEST(ErrorBoundTest, TheRateIsRoundedUp) {
  const auto bound = [](int64_t elapsed_ns) {
    return PlanApply(StateAt(kNow, {0}), At(kNow + elapsed_ns, 0), TscScaling(), {})
        ->bound->rate_ns;
  };
  EXPECT_EQ(bound(0), 0);
  EXPECT_EQ(bound(1), 1);
  EXPECT_EQ(bound(20'000), 1);
  EXPECT_EQ(bound(20'001), 2);
}

TEST(ErrorBoundTest, ATickOfASlowGuestIsLong) {
  TscState state = StateAt(kNow, {1000});
  state.guest_khz = 300'000;  // 3.33 ns a tick
  EXPECT_EQ(PlanApply(state, At(kNow, 700), TscScaling(), {})->bound->rounding_ns, 2 + 4);
}

TEST(ErrorBoundTest, AGuestThatIsNotScaledRanAtItsHostsRate) {
  TscState state = StateAt(kNow, {1000});
  state.guest_khz = kKhz + 650;  // 250 ppm: not scaled
  ApplyPolicy policy;
  policy.rate_uncertainty_ppm = 0;
  const auto rate_ns = [&] {
    return PlanApply(state, At(kNow + kSecond, 700), TscScaling(), policy)->bound->rate_ns;
  };
  EXPECT_EQ(rate_ns(), 250'000);
  state.guest_khz = kKhz - 650;
  EXPECT_EQ(rate_ns(), 251'000) << "of the lower of both";
  state.guest_khz = kKhz + 651;  // scaled: runs at its own
  EXPECT_EQ(rate_ns(), 0);
}

TEST(ErrorBoundTest, TheLimitIsInclusive) {
  const TscState state = StateAt(kNow, {1000});
  const TimeReference destination = At(kNow + kMs, 700);
  ApplyPolicy policy;
  const int64_t total_ns = PlanApply(state, destination, TscScaling(), policy)->bound->total_ns();
  policy.max_error_ns = total_ns;
  EXPECT_TRUE(PlanApply(state, destination, TscScaling(), policy).ok());
  policy.max_error_ns = total_ns - 1;
  const absl::Status status = PlanApply(state, destination, TscScaling(), policy).status();
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
    const auto plan = PlanApply(state, destination, TscScaling(), policy);
    if (!plan.ok()) {
      ASSERT_EQ(ReasonOf(plan.status()), Reason::kTimeWouldGoBack);
      continue;
    }
    const long double would_have_ticks =
        static_cast<long double>(true_elapsed_ns) * rate_khz / 1e6L;
    const long double error_ns =
        (static_cast<long double>(plan->elapsed_ticks) - would_have_ticks) * 1e6L / state.guest_khz;
    ASSERT_LE(std::abs(error_ns), static_cast<long double>(plan->bound->total_ns()))
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
  EXPECT_EQ(PlanApply(state, after, TscScaling(), policy)->elapsed_ns, 2 * kSecond);
  // Within the repeated second REALTIME alone would even go back.
  after.realtime_ns = kNow - kSecond / 2;
  EXPECT_EQ(PlanApply(state, after, TscScaling(), policy)->elapsed_ns, kSecond / 2);
  // A second was deleted.
  after = At(kNow + 2 * kSecond + kSecond, 700);
  after.tai_offset_s = 36;
  EXPECT_EQ(PlanApply(state, after, TscScaling(), policy)->elapsed_ns, 2 * kSecond);
}

TEST(LeapSecondTest, WithoutTaiOnOneSideRealtimeCounts) {
  for (const bool source : {true, false}) {
    TscState state = StateAt(kNow, {1000});
    TimeReference destination = At(kNow + kMs, 700);
    (source ? *state.reference : destination).tai_offset_s = 0;
    const auto plan = PlanApply(state, destination, TscScaling(), {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_FALSE(plan->used_tai);
    EXPECT_EQ(plan->elapsed_ns, kMs) << "37 s must not be taken for elapsed time";
  }
}

// --- Extremes: nothing may overflow (the sanitizer watches) ---

TEST(ExtremesTest, ElapsedTimeSaturates) {
  ApplyPolicy policy;
  policy.max_elapsed_ns = kMax;
  policy.max_error_ns = kMax;
  const auto plan = PlanApply(StateAt(kMin, {1000}), At(kMax, 700), TscScaling(), policy);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->elapsed_ns, kMax);
  EXPECT_EQ(plan->elapsed_ticks, NsToTicks(kMax, kKhz));
  const absl::Status back =
      PlanApply(StateAt(kMax, {1000}), At(kMin, 700), TscScaling(), policy).status();
  EXPECT_EQ(ReasonOf(back), Reason::kTimeWouldGoBack);
  EXPECT_EQ(MetadataOf(back)["elapsed_ns"], absl::StrCat(kMin));
}

TEST(ExtremesTest, TaiOffsetsSaturate) {
  TscState state = StateAt(kNow, {1000});
  state.reference->tai_offset_s = std::numeric_limits<int32_t>::min();
  TimeReference destination = At(kNow, 700);
  destination.tai_offset_s = std::numeric_limits<int32_t>::max();
  ApplyPolicy policy;
  policy.max_elapsed_ns = kMax;
  policy.max_error_ns = kMax;
  const auto plan = PlanApply(state, destination, TscScaling(), policy);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->elapsed_ns, 4'294'967'295 * kSecond);
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
  const absl::Status status = PlanApply(state, destination, TscScaling(), policy).status();
  EXPECT_EQ(ReasonOf(status), Reason::kClockBoundExceeded);
  EXPECT_EQ(MetadataOf(status)["error_bound_ns"], absl::StrCat(kMax));
}

TEST(ExtremesTest, TicksAndKvmclockWrap) {
  TscState state = StateAt(kNow, {~uint64_t{0} - 10, 0});
  state.kvmclock = KvmClockValue{.kvmclock_ns = ~uint64_t{0}};
  const auto plan = PlanApply(state, At(kNow + kMs, ~uint64_t{0}), TscScaling(), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->vcpus[0].guest_tsc_ticks, 2'600'000u - 11);
  EXPECT_EQ(plan->offsets[0].offset_ticks, 2'600'000u - 10);
  EXPECT_EQ(plan->offsets[1].offset_ticks, 2'600'001u);
  EXPECT_EQ(plan->kvmclock->kvmclock_ns, static_cast<uint64_t>(kMs - 1));
}

TEST(ExtremesTest, AStateWithoutVcpusGivesAnEmptyPlan) {
  const auto plan = PlanApply(StateAt(kNow, {}), At(kNow, 0), TscScaling(), {.equalise = true});
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(plan->offsets.empty());
}

}  // namespace
}  // namespace tsc_handoff::time
