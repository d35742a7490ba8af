#include "server/time/handoff_math.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/time/ticks.h"
#include "server/time/time_testing.h"

namespace tsc_handoff::time {
namespace {

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
  const auto plan = Plan(state, At(kNow + 2 * kMs, 700), TscScaling(), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->elapsed.elapsed_ns, 2 * kMs);
  EXPECT_EQ(plan->elapsed.elapsed_ticks, 5'200'000u);
  EXPECT_EQ(plan->offsets[0].id, 0u);
  EXPECT_EQ(plan->offsets[0].offset_ticks, 5'200'300u);
  EXPECT_EQ(plan->offsets[1].id, 3u);
  EXPECT_EQ(plan->offsets[1].offset_ticks, 5'235'300u);
  EXPECT_EQ(plan->vcpus[1].guest_tsc_ticks, 5'236'000u);
  EXPECT_TRUE(plan->elapsed.used_tai);
  EXPECT_FALSE(plan->elapsed.accepted_untrusted_clock);
}

TEST(PlanApplyTest, ExactModeKeepsTheCapturedValuesAndNeedsNoClock) {
  TscState state = StateAt(kNow, {1000, 36'000});
  state.kvmclock = KvmClockValue{.kvmclock_ns = 99};
  state.reference.reset();
  TimeReference destination = At(-5, 700);
  destination.clock_trusted = false;
  const auto plan = Plan(state, destination, TscScaling(), {.mode = ApplyMode::kExact});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->elapsed.elapsed_ns, 0);
  EXPECT_EQ(plan->elapsed.elapsed_ticks, 0u);
  EXPECT_EQ(plan->offsets[0].offset_ticks, 300u);
  EXPECT_EQ(plan->kvmclock->kvmclock_ns, 99u);
  EXPECT_FALSE(plan->elapsed.bound.has_value());
  EXPECT_FALSE(plan->elapsed.accepted_untrusted_clock);
}

TEST(PlanApplyTest, AStateWithoutTimeCannotBeMovedOn) {
  TscState state = StateAt(kNow, {1000});
  state.reference.reset();
  EXPECT_EQ(ReasonOf(Plan(state, At(kNow, 700), TscScaling(), {}).status()),
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
    const auto plan = Plan(state, destination, scaling, random.Policy());
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
      ASSERT_EQ(after - state.vcpus[k].guest_tsc_ticks, plan->elapsed.elapsed_ticks)
          << "one value for all";
      ASSERT_GE(static_cast<int64_t>(after - state.vcpus[k].guest_tsc_ticks), 0)
          << "none goes back";
      ASSERT_EQ(plan->vcpus[k].tsc_adjust_ticks, state.vcpus[k].tsc_adjust_ticks);
      ASSERT_EQ(plan->vcpus[k].tsc_deadline_ticks, state.vcpus[k].tsc_deadline_ticks);
    }
    ASSERT_EQ(plan->kvmclock.has_value(), state.kvmclock.has_value());
    if (state.kvmclock.has_value()) {
      const uint64_t moved_ns = plan->kvmclock->kvmclock_ns - state.kvmclock->kvmclock_ns;
      ASSERT_EQ(moved_ns, static_cast<uint64_t>(plan->elapsed.elapsed_ns))
          << "kvmclock moves by the same time";
    }
    ASSERT_EQ(plan->elapsed.elapsed_ticks, NsToTicks(plan->elapsed.elapsed_ns, state.guest_khz));
  }
  EXPECT_GT(applied, 3000);
}

TEST(PlanApplyPropertyTest, EqualOffsetsStayEqual) {
  RandomCase random(2);
  for (int i = 0; i < 2000; ++i) {
    const TscState state = random.State(/*equal=*/true);
    const auto plan =
        Plan(state, random.Destination(), random.Scaling(state.guest_khz), random.Policy());
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
    const auto plan = Plan(state, random.Destination(), random.Scaling(state.guest_khz), policy);
    if (!plan.ok()) continue;
    bool reached = false;
    for (size_t k = 0; k < state.vcpus.size(); ++k) {
      ASSERT_EQ(plan->offsets[k].offset_ticks, plan->offsets[0].offset_ticks);
      const uint64_t moved = plan->vcpus[k].guest_tsc_ticks - state.vcpus[k].guest_tsc_ticks;
      ASSERT_GE(static_cast<int64_t>(moved - plan->elapsed.elapsed_ticks), 0);
      reached |= moved == plan->elapsed.elapsed_ticks;
    }
    ASSERT_TRUE(reached) << "none moves further than the one that is ahead";
  }
}

TEST(PlanApplyTest, EqualiseWorksAcrossTheWrap) {
  const TscState state = StateAt(kNow, {~uint64_t{0} - 5, 10, ~uint64_t{0}});
  const auto plan =
      Plan(state, At(kNow, 0), TscScaling(), {.mode = ApplyMode::kExact, .equalise = true});
  ASSERT_TRUE(plan.ok());
  for (const VcpuTsc& vcpu : plan->vcpus) EXPECT_EQ(vcpu.guest_tsc_ticks, 10u);
}

TEST(PlanApplyTest, TimeThatIsNotCertainToHavePassedIsRefused) {
  const TscState state = StateAt(kNow, {1000});
  struct Row {
    int64_t elapsed_ns;
    int64_t earliest_ns;
    bool ok;
  };
  for (const Row& row : {Row{0, 0, true}, Row{5, 0, true}, Row{5, -1, false}, Row{-1, -1, false},
                         Row{-1, 0, false}}) {
    Elapsed elapsed;
    elapsed.elapsed_ns = row.elapsed_ns;
    elapsed.earliest_ns = row.earliest_ns;
    const absl::Status status =
        PlanApply(state, At(kNow, 700), TscScaling(), elapsed, /*equalise=*/false).status();
    EXPECT_EQ(status.ok(), row.ok) << row.elapsed_ns << " " << row.earliest_ns;
    if (row.ok) continue;
    EXPECT_EQ(ReasonOf(status), Reason::kTimeWouldGoBack);
    EXPECT_EQ(MetadataOf(status)["earliest_ns"], absl::StrCat(row.earliest_ns));
  }
}

TEST(ExtremesTest, TicksAndKvmclockWrap) {
  TscState state = StateAt(kNow, {~uint64_t{0} - 10, 0});
  state.kvmclock = KvmClockValue{.kvmclock_ns = ~uint64_t{0}};
  const auto plan = Plan(state, At(kNow + kMs, ~uint64_t{0}), TscScaling(), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->vcpus[0].guest_tsc_ticks, 2'600'000u - 11);
  EXPECT_EQ(plan->offsets[0].offset_ticks, 2'600'000u - 10);
  EXPECT_EQ(plan->offsets[1].offset_ticks, 2'600'001u);
  EXPECT_EQ(plan->kvmclock->kvmclock_ns, static_cast<uint64_t>(kMs - 1));
}

TEST(ExtremesTest, AStateWithoutVcpusGivesAnEmptyPlan) {
  const auto plan = Plan(StateAt(kNow, {}), At(kNow + kMs, 0), TscScaling(), {.equalise = true});
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(plan->offsets.empty());
}

}  // namespace
}  // namespace tsc_handoff::time
