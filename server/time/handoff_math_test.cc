#include "server/time/handoff_math.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"

namespace tsc_handoff::time {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 1'700'000'000 * kSecond;
constexpr uint32_t kKhz = 2'600'000;

TimeReference At(int64_t realtime_ns, uint64_t host_tsc_ticks) {
  TimeReference reference;
  reference.host_tsc_ticks = host_tsc_ticks;
  reference.realtime_ns = realtime_ns;
  reference.tai_offset_s = 37;
  reference.read_error_ns = 40;
  reference.clock_error_ns = 100'000;
  reference.clock_trusted = true;
  reference.host_tsc_khz = kKhz;
  return reference;
}

TscState StateAt(int64_t realtime_ns, const std::vector<uint64_t>& guest_tsc_ticks) {
  TscState state;
  state.vm_id = "vm";
  state.reference = At(realtime_ns, 5'000'000);
  state.guest_khz = kKhz;
  for (const uint64_t ticks : guest_tsc_ticks) {
    state.vcpus.push_back(
        {.id = static_cast<uint32_t>(3 * state.vcpus.size()), .guest_tsc_ticks = ticks});
  }
  return state;
}

std::string Text(const absl::Status& status) { return absl::StrCat(status.message()); }

// --- Conversions ---

TEST(NsToTicksTest, WorkedExamples) {
  EXPECT_EQ(NsToTicks(0, kKhz), 0u);
  EXPECT_EQ(NsToTicks(1, kKhz), 2u);
  EXPECT_EQ(NsToTicks(5, kKhz), 13u);
  EXPECT_EQ(NsToTicks(2 * kMs, kKhz), 5'200'000u);
  EXPECT_EQ(NsToTicks(999'999, 1), 0u);
  EXPECT_EQ(NsToTicks(1'000'000, 1), 1u);
  EXPECT_EQ(NsToTicks(50 * kMs, 3'499'912), 174'995'600u);
  // The largest of each: 9223372036854775807 * 4294967295 / 10^6 modulo 2^64.
  EXPECT_EQ(NsToTicks(kMax, 4'294'967'295), 0x7bd052934acaeea6u);
}

TEST(NsToTicksTest, IsExactAgainstDivisionFirst) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const auto ns = static_cast<int64_t>(random() >> (1 + random() % 63));
    const auto khz = static_cast<uint32_t>(random() >> (32 + random() % 32));
    const auto ms = static_cast<uint64_t>(ns / 1'000'000);
    const auto rest_ns = static_cast<uint64_t>(ns % 1'000'000);
    ASSERT_EQ(NsToTicks(ns, khz), ms * khz + rest_ns * khz / 1'000'000) << ns << " ns at " << khz;
  }
}

TEST(TicksToNsTest, RoundsTowardsZeroAndSaturates) {
  EXPECT_EQ(TicksToNs(0, kKhz), 0);
  EXPECT_EQ(TicksToNs(26, kKhz), 10);
  EXPECT_EQ(TicksToNs(25, kKhz), 9);
  EXPECT_EQ(TicksToNs(-25, kKhz), -9);
  EXPECT_EQ(TicksToNs(kMax, 1'000'000), kMax);
  EXPECT_EQ(TicksToNs(kMin, 1'000'000), kMin);
  EXPECT_EQ(TicksToNs(kMax, 1), kMax);
  EXPECT_EQ(TicksToNs(kMin, 1), kMin);
}

TEST(DifferencePpmTest, RoundsUp) {
  EXPECT_EQ(DifferencePpm(kKhz, kKhz), 0u);
  EXPECT_EQ(DifferencePpm(2'600'650, kKhz), 250u);
  EXPECT_EQ(DifferencePpm(2'599'350, kKhz), 250u);
  EXPECT_EQ(DifferencePpm(2'600'001, kKhz), 1u);
  EXPECT_EQ(DifferencePpm(~0u, 1), ~0u);
}

TEST(GuestTscTest, WrapsModulo64Bits) {
  EXPECT_EQ(GuestTsc(TscScaling(), 100, 20), 120u);
  EXPECT_EQ(GuestTsc(TscScaling(), 100, static_cast<uint64_t>(-101)), ~uint64_t{0});
  const TscScaling half =
      TscScaling::For({.host_khz = 3'499'912, .can_scale = true, .frac_bits = 48}, 1'749'956)
          .value();
  EXPECT_EQ(GuestTsc(half, 1001, 7), 507u);
}

TEST(PhaseTest, SpreadIsTheLargestDifference) {
  EXPECT_EQ(PhaseSpreadTicks({}), 0u);
  EXPECT_EQ(PhaseSpreadTicks({42}), 0u);
  EXPECT_EQ(PhaseSpreadTicks({10, 10, 10}), 0u);
  EXPECT_EQ(PhaseSpreadTicks({100, 35'100, 50}), 35'050u);
  EXPECT_EQ(PhaseSpreadTicks({~uint64_t{0}, 4, 1}), 5u) << "across the wrap";
  EXPECT_EQ(PhaseSpreadTicks({0, uint64_t{1} << 63}), uint64_t{1} << 63);
}

TEST(PhaseTest, ErrorIsTheChangeOfAnyDifference) {
  EXPECT_EQ(PhaseErrorTicks({}, {}), 0u);
  EXPECT_EQ(PhaseErrorTicks({1, 2, 3}, {1001, 1002, 1003}), 0u);
  EXPECT_EQ(PhaseErrorTicks({1, 2, 3}, {1001, 1005, 1002}), 4u);
  EXPECT_EQ(PhaseErrorTicks({~uint64_t{0}, 0}, {9, 10}), 0u) << "across the wrap";
}

// --- PlanApply ---

TEST(PlanApplyTest, WorkedExample) {
  const TscState state = StateAt(kNow, {1000, 36'000});
  const auto plan = PlanApply(state, At(kNow + 2 * kMs, 700), TscScaling(), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->elapsed_ns, 2 * kMs);
  EXPECT_EQ(plan->elapsed_ticks, 5'200'000u);
  EXPECT_EQ(plan->offsets[0].id, 0u);
  EXPECT_EQ(plan->offsets[0].offset_ticks, 5'200'300u);
  EXPECT_EQ(plan->offsets[1].id, 3u);
  EXPECT_EQ(plan->offsets[1].offset_ticks, 5'235'300u);
  EXPECT_EQ(plan->vcpus[1].guest_tsc_ticks, 5'236'000u);
  EXPECT_TRUE(plan->used_tai);
  EXPECT_FALSE(plan->accepted_untrusted_clock);
}

TEST(PlanApplyTest, ExactModeKeepsTheCapturedValuesAndNeedsNoClock) {
  TscState state = StateAt(kNow, {1000, 36'000});
  state.kvmclock = KvmClockValue{.kvmclock_ns = 99};
  state.reference.reset();
  TimeReference destination = At(-5, 700);
  destination.clock_trusted = false;
  const auto plan = PlanApply(state, destination, TscScaling(), {.mode = ApplyMode::kExact});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->elapsed_ns, 0);
  EXPECT_EQ(plan->elapsed_ticks, 0u);
  EXPECT_EQ(plan->offsets[0].offset_ticks, 300u);
  EXPECT_EQ(plan->kvmclock->kvmclock_ns, 99u);
  EXPECT_FALSE(plan->bound.has_value());
  EXPECT_FALSE(plan->accepted_untrusted_clock);
}

TEST(PlanApplyTest, AStateWithoutTimeCannotBeMovedOn) {
  TscState state = StateAt(kNow, {1000});
  state.reference.reset();
  EXPECT_EQ(ReasonOf(PlanApply(state, At(kNow, 700), TscScaling(), {}).status()),
            Reason::kStateWithoutTime);
}

// Draws states and destinations from the whole range, with clocks of any error.
class RandomCase {
 public:
  explicit RandomCase(uint64_t seed) : random_(seed) {}

  uint64_t Bits() { return random_() >> (random_() % 64); }
  uint64_t Below(uint64_t limit) { return random_() % limit; }

  TscState State(bool equal) {
    TscState state = StateAt(kNow + static_cast<int64_t>(Below(kSecond)), {});
    state.guest_khz = static_cast<uint32_t>(1'000'000 + Below(4'000'000));
    state.reference->host_tsc_khz = static_cast<uint32_t>(1'000'000 + Below(4'000'000));
    const uint64_t all = random_();
    const uint64_t vcpus = 1 + Below(32);
    for (uint64_t i = 0; i < vcpus; ++i) {
      state.vcpus.push_back({.id = static_cast<uint32_t>(7 * i),
                             .guest_tsc_ticks = equal ? all : all + random_() % (uint64_t{1} << 40),
                             .tsc_adjust_ticks = random_(),
                             .tsc_deadline_ticks = random_()});
    }
    if (Below(2) == 0)
      state.kvmclock =
          KvmClockValue{.kvmclock_ns = Bits(), .read_error_ns = 9, .master_clock = true};
    return state;
  }

  TimeReference Destination() {
    TimeReference reference = At(kNow + static_cast<int64_t>(Below(300)) * kSecond, random_());
    reference.realtime_ns += static_cast<int64_t>(Below(2 * kSecond)) - kSecond;  // a wrong clock
    reference.tai_offset_s = static_cast<int32_t>(Below(2) * 37);
    reference.clock_trusted = Below(2) == 0;
    reference.clock_error_ns = static_cast<int64_t>(Below(2 * kMs));
    return reference;
  }

  TscScaling Scaling(uint32_t guest_khz) {
    const auto host_khz = static_cast<uint32_t>(1'000'000 + Below(4'000'000));
    if (Below(3) == 0) return TscScaling();
    return TscScaling::For(
               {.host_khz = host_khz, .can_scale = true, .frac_bits = Below(2) == 0 ? 32u : 48u},
               guest_khz)
        .value();
  }

  ApplyPolicy Policy() {
    ApplyPolicy policy;
    policy.mode = Below(3) == 0 ? ApplyMode::kExact : ApplyMode::kElapsed;
    policy.allow_untrusted_clock = true;
    policy.max_error_ns = kMax;
    policy.max_elapsed_ns = kMax;
    return policy;
  }

 private:
  std::mt19937_64 random_;
};

TEST(PlanApplyPropertyTest, PhaseIsBitExactWhateverTheClocksDo) {
  RandomCase random(1);
  int applied = 0;
  for (int i = 0; i < 4000; ++i) {
    const TscState state = random.State(/*equal=*/false);
    const TimeReference destination = random.Destination();
    const TscScaling scaling = random.Scaling(state.guest_khz);
    const auto plan = PlanApply(state, destination, scaling, random.Policy());
    if (!plan.ok()) {
      ASSERT_EQ(ReasonOf(plan.status()), Reason::kTimeWouldGoBack) << plan.status();
      continue;
    }
    ++applied;
    ASSERT_EQ(plan->offsets.size(), state.vcpus.size());
    for (size_t k = 0; k < state.vcpus.size(); ++k) {
      const uint64_t after =
          GuestTsc(scaling, destination.host_tsc_ticks, plan->offsets[k].offset_ticks);
      const uint64_t first =
          GuestTsc(scaling, destination.host_tsc_ticks, plan->offsets[0].offset_ticks);
      ASSERT_EQ(plan->offsets[k].id, state.vcpus[k].id);
      ASSERT_EQ(after, plan->vcpus[k].guest_tsc_ticks);
      ASSERT_EQ(after - first, state.vcpus[k].guest_tsc_ticks - state.vcpus[0].guest_tsc_ticks);
      ASSERT_EQ(after - state.vcpus[k].guest_tsc_ticks, plan->elapsed_ticks) << "one value for all";
      ASSERT_GE(static_cast<int64_t>(after - state.vcpus[k].guest_tsc_ticks), 0)
          << "none goes back";
      ASSERT_EQ(plan->vcpus[k].tsc_adjust_ticks, state.vcpus[k].tsc_adjust_ticks);
      ASSERT_EQ(plan->vcpus[k].tsc_deadline_ticks, state.vcpus[k].tsc_deadline_ticks);
    }
    ASSERT_EQ(plan->kvmclock.has_value(), state.kvmclock.has_value());
    if (state.kvmclock.has_value()) {
      const uint64_t moved_ns = plan->kvmclock->kvmclock_ns - state.kvmclock->kvmclock_ns;
      ASSERT_EQ(moved_ns, static_cast<uint64_t>(plan->elapsed_ns))
          << "kvmclock moves by the same time";
    }
    ASSERT_EQ(plan->elapsed_ticks, NsToTicks(plan->elapsed_ns, state.guest_khz));
  }
  EXPECT_GT(applied, 3000);
}

TEST(PlanApplyPropertyTest, EqualOffsetsStayEqual) {
  RandomCase random(2);
  for (int i = 0; i < 2000; ++i) {
    const TscState state = random.State(/*equal=*/true);
    const auto plan =
        PlanApply(state, random.Destination(), random.Scaling(state.guest_khz), random.Policy());
    if (!plan.ok()) continue;
    for (const VcpuOffset& offset : plan->offsets) {
      ASSERT_EQ(offset.offset_ticks, plan->offsets[0].offset_ticks);
    }
  }
}

TEST(PlanApplyPropertyTest, EqualiseTakesTheFurthestAheadAndNoneGoesBack) {
  RandomCase random(3);
  for (int i = 0; i < 2000; ++i) {
    const TscState state = random.State(/*equal=*/false);
    ApplyPolicy policy = random.Policy();
    policy.equalise = true;
    const auto plan =
        PlanApply(state, random.Destination(), random.Scaling(state.guest_khz), policy);
    if (!plan.ok()) continue;
    bool reached = false;
    for (size_t k = 0; k < state.vcpus.size(); ++k) {
      ASSERT_EQ(plan->offsets[k].offset_ticks, plan->offsets[0].offset_ticks);
      const uint64_t moved = plan->vcpus[k].guest_tsc_ticks - state.vcpus[k].guest_tsc_ticks;
      ASSERT_GE(static_cast<int64_t>(moved - plan->elapsed_ticks), 0);
      reached |= moved == plan->elapsed_ticks;
    }
    ASSERT_TRUE(reached) << "none moves further than the one that is ahead";
  }
}

TEST(PlanApplyTest, EqualiseWorksAcrossTheWrap) {
  const TscState state = StateAt(kNow, {~uint64_t{0} - 5, 10, ~uint64_t{0}});
  const auto plan =
      PlanApply(state, At(kNow, 0), TscScaling(), {.mode = ApplyMode::kExact, .equalise = true});
  ASSERT_TRUE(plan.ok());
  for (const VcpuTsc& vcpu : plan->vcpus) EXPECT_EQ(vcpu.guest_tsc_ticks, 10u);
}

TEST(PlanApplyTest, NegativeElapsedTimeIsRefused) {
  const TscState state = StateAt(kNow, {1000});
  const absl::Status status = PlanApply(state, At(kNow - 1, 700), TscScaling(), {}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kTimeWouldGoBack);
  EXPECT_EQ(MetadataOf(status)["elapsed_ns"], "-1");
  EXPECT_NE(Text(status).find("captured 1ns in the future"), std::string::npos) << status;
  EXPECT_TRUE(PlanApply(state, At(kNow, 700), TscScaling(), {}).ok())
      << "no time at all is not backwards";
  // Accepting an untrusted clock does not accept going back.
  EXPECT_EQ(
      ReasonOf(PlanApply(state, At(kNow - 1, 700), TscScaling(), {.allow_untrusted_clock = true})
                   .status()),
      Reason::kTimeWouldGoBack);
}

TEST(PlanApplyTest, TooMuchElapsedTimeIsRefused) {
  const TscState state = StateAt(kNow, {1000});
  ApplyPolicy policy;
  policy.max_error_ns = kMax;
  policy.max_elapsed_ns = 10 * kSecond;
  EXPECT_TRUE(PlanApply(state, At(kNow + 10 * kSecond, 700), TscScaling(), policy).ok());
  const absl::Status status =
      PlanApply(state, At(kNow + 10 * kSecond + 1, 700), TscScaling(), policy).status();
  EXPECT_EQ(ReasonOf(status), Reason::kElapsedOutOfRange);
  EXPECT_EQ(MetadataOf(status),
            (Metadata{{"elapsed_ns", "10000000001"}, {"limit", "10000000000"}}));
}

TEST(PlanApplyTest, AnUntrustedClockOnEitherSideIsRefusedByName) {
  for (const bool source : {true, false}) {
    TscState state = StateAt(kNow, {1000});
    TimeReference destination = At(kNow + kMs, 700);
    (source ? *state.reference : destination).clock_trusted = false;
    const absl::Status status = PlanApply(state, destination, TscScaling(), {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kClockUntrusted);
    EXPECT_EQ(MetadataOf(status)["side"], source ? "source" : "destination");

    const auto accepted =
        PlanApply(state, destination, TscScaling(), {.allow_untrusted_clock = true});
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    EXPECT_TRUE(accepted->accepted_untrusted_clock);
    EXPECT_FALSE(accepted->bound.has_value()) << "no bound is stated that nobody vouches for";
    EXPECT_EQ(accepted->elapsed_ns, kMs);
  }
}

TEST(PlanApplyTest, AllowingUntrustedClocksChangesNothingWhenBothAreTrusted) {
  const auto plan = PlanApply(StateAt(kNow, {1000}), At(kNow + kMs, 700), TscScaling(),
                              {.allow_untrusted_clock = true});
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->accepted_untrusted_clock);
  EXPECT_TRUE(plan->bound.has_value());
}

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
