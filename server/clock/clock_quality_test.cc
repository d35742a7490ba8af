#include "server/clock/clock_quality.h"

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kHour = 3600 * kSecond;
constexpr int64_t kWall = 1'700'000'000 * kSecond;  // CLOCK_REALTIME at the snapshot
constexpr int64_t kUptime = 5'000 * kSecond;        // CLOCK_MONOTONIC then
// Two clocks in whole ns of one timekeeper may differ by this much for no reason.
constexpr int64_t kRounding = 2;

// `passed_ns` after the snapshot, with the clock stepped by `step_ns` since.
ClockInstant After(int64_t passed_ns, int64_t step_ns = 0, int64_t width_ns = 0) {
  return {kWall + passed_ns + step_ns, kUptime + passed_ns, width_ns};
}

struct DriftRow {
  int64_t age_ns;
  uint32_t ppm;
  int64_t drift_ns;
};

TEST(DriftNsTest, IsRoundedUp) {
  for (const DriftRow& row : {
           DriftRow{0, 50, 0},
           DriftRow{1, 0, 0},
           DriftRow{1, 1, 1},
           DriftRow{1'000'000, 1, 1},
           DriftRow{1'000'001, 1, 2},
           DriftRow{kSecond, 50, 50'000},
           DriftRow{kSecond + 1, 50, 50'001},
           DriftRow{kHour, 1000, 3600 * kMs},
           DriftRow{kSecond, 1'000'000, kSecond},
           DriftRow{kMax, 1, 9'223'372'036'855},
       }) {
    EXPECT_EQ(DriftNs(row.age_ns, row.ppm), row.drift_ns) << row.age_ns << " ns, " << row.ppm;
  }
}

TEST(DriftNsTest, ExtremesAreHugeAndDoNotOverflow) {
  EXPECT_EQ(DriftNs(kMax, 1'000'000), kMax);
  EXPECT_EQ(DriftNs(kMax, 1'000'001), kMax);
  EXPECT_EQ(DriftNs(kMax, std::numeric_limits<uint32_t>::max()), kMax);
}

struct StepRow {
  const char* name;
  ClockInstant before;
  ClockInstant after;
  int64_t shift_ns;
  int64_t uncertainty_ns;
  bool stepped;
};

class LookForStepTest : public testing::TestWithParam<StepRow> {};

TEST_P(LookForStepTest, SeesWhatTheWidthsLetBeSeen) {
  const StepRow& row = GetParam();
  const StepLook look = LookForStep(row.before, row.after);
  EXPECT_EQ(look.shift_ns, row.shift_ns);
  EXPECT_EQ(look.uncertainty_ns, row.uncertainty_ns);
  EXPECT_EQ(look.stepped(), row.stepped);
}

INSTANTIATE_TEST_SUITE_P(
    Table, LookForStepTest,
    testing::Values(
        StepRow{"BothWentOnAlike", After(0), After(kHour), 0, kRounding, false},
        StepRow{"Rounding", After(0), After(kSecond, 2), 2, kRounding, false},
        StepRow{"RoundingBack", After(0), After(kSecond, -2), -2, kRounding, false},
        StepRow{"AboveRounding", After(0), After(kSecond, 3), 3, kRounding, true},
        StepRow{"AboveRoundingBack", After(0), After(kSecond, -3), -3, kRounding, true},
        StepRow{"WithinWidths", After(0, 0, 40), After(1, 102, 60), 102, 102, false},
        StepRow{"BeyondWidths", After(0, 0, 40), After(1, 103, 60), 103, 102, true},
        StepRow{"WithinWidthsBack", After(0, 0, 40), After(1, -102, 60), -102, 102, false},
        StepRow{"BeyondWidthsBack", After(0, 0, 40), After(1, -103, 60), -103, 102, true},
        StepRow{"HourForth", After(0), After(kSecond, kHour), kHour, kRounding, true},
        StepRow{"HourBack", After(0), After(kSecond, -kHour), -kHour, kRounding, true},
        // A suspended machine: CLOCK_MONOTONIC stood still, CLOCK_REALTIME went on.
        StepRow{"Suspend", After(0), After(0, kHour), kHour, kRounding, true},
        StepRow{"NegativeDifferences", {0, kHour, 0}, {7, kHour, 0}, 7, kRounding, true},
        StepRow{"ToTheEndOfTime", {0, 0, 0}, {kMax, 0, 0}, kMax, kRounding, true},
        StepRow{"FromTheEndOfTime", {kMax, 0, 0}, {0, 0, 0}, -kMax, kRounding, true}),
    [](const auto& row) { return std::string(row.param.name); });

// Readings that were interrupted for ever see no step, and nothing overflows.
TEST(LookForStepWidthTest, HugeWidthsSaturate) {
  for (const ClockInstant& before : {After(0), After(0, 0, kMax - 1), After(0, 0, kMax)}) {
    const StepLook look = LookForStep(before, After(0, kHour, kMax - 1));
    EXPECT_GE(look.uncertainty_ns, kMax - 1);
    EXPECT_FALSE(look.stepped());
  }
}

ClockSnapshot Trusted() {
  ClockSnapshot snapshot;
  snapshot.quality.status = ClockStatus::kSynchronised;
  snapshot.quality.trusted = true;
  snapshot.quality.error_bound_ns = 400'000;
  snapshot.quality.age_ns = 3 * kMs;
  snapshot.quality.tai_offset_s = 37;
  snapshot.quality.leap_second = true;
  snapshot.quality.frequency_correction = 1.5e-6;
  snapshot.quality.source = "chrony";
  snapshot.taken = After(0, 0, 60);
  snapshot.drift_ppm = 50;
  snapshot.trusted_until_ns = kUptime + 10 * kSecond;
  return snapshot;
}

struct QualityRow {
  const char* name;
  ClockInstant now;
  ClockStatus status;
  int64_t error_bound_ns;  // 0: not trusted
  int64_t age_ns;
  const char* reason;
};

class QualityAtTest : public testing::TestWithParam<QualityRow> {};

TEST_P(QualityAtTest, FollowsFromTheSnapshot) {
  const QualityRow& row = GetParam();
  const ClockQuality quality = QualityAt(Trusted(), row.now);
  EXPECT_EQ(quality.status, row.status);
  EXPECT_EQ(quality.trusted, row.error_bound_ns != 0);
  EXPECT_EQ(quality.error_bound_ns, row.error_bound_ns);
  EXPECT_EQ(quality.age_ns, row.age_ns);
  EXPECT_EQ(quality.untrusted_reason.empty(), quality.trusted);
  EXPECT_NE(quality.untrusted_reason.find(row.reason), std::string::npos)
      << quality.untrusted_reason;
  // What has nothing to do with trust stays.
  EXPECT_EQ(quality.tai_offset_s, 37);
  EXPECT_TRUE(quality.leap_second);
  EXPECT_EQ(quality.frequency_correction, 1.5e-6);
  EXPECT_EQ(quality.source, "chrony");
}

constexpr ClockStatus kSynchronised = ClockStatus::kSynchronised;
constexpr ClockStatus kUnknown = ClockStatus::kUnknown;
constexpr ClockStatus kDisrupted = ClockStatus::kDisrupted;
// What the snapshot's own width and the rounding could hide, at any later instant.
constexpr int64_t kHidden = 60 + kRounding;
constexpr int64_t kBound = 400'000;
constexpr int64_t kAge = 3 * kMs;

INSTANTIATE_TEST_SUITE_P(
    Table, QualityAtTest,
    testing::Values(
        QualityRow{"AtOnce", After(0), kSynchronised, kBound + kHidden, kAge, ""},
        QualityRow{"BoundGrowsByDrift", After(2 * kSecond), kSynchronised,
                   kBound + 100'000 + kHidden, kAge + 2 * kSecond, ""},
        QualityRow{"DriftIsRoundedUp", After(1), kSynchronised, kBound + 1 + kHidden, kAge + 1, ""},
        QualityRow{"WhatTheWidthsHideIsAdded", After(kSecond, 0, 300), kSynchronised,
                   kBound + 50'000 + 300 + kHidden, kAge + kSecond, ""},
        QualityRow{"AShiftWithinTheWidthsIsAdded", After(kSecond, 362, 300), kSynchronised,
                   kBound + 50'000 + 362 + 300 + kHidden, kAge + kSecond, ""},
        QualityRow{"AShiftBackWithinTheWidthsIsAdded", After(kSecond, -362, 300), kSynchronised,
                   kBound + 50'000 + 362 + 300 + kHidden, kAge + kSecond, ""},
        QualityRow{"AStepBeyondTheWidths", After(kSecond, 363, 300), kDisrupted, 0, kAge + kSecond,
                   "stepped by 363ns"},
        QualityRow{"AStepBackBeyondTheWidths", After(kSecond, -363, 300), kDisrupted, 0,
                   kAge + kSecond, "stepped by -363ns"},
        QualityRow{"AStepByAnHour", After(0, kHour), kDisrupted, 0, kAge, "stepped by 1h"},
        QualityRow{"AStepToTheEpoch", After(0, -kWall), kDisrupted, 0, kAge, "stepped by -"},
        QualityRow{"AStepToTheEndOfTime", {kMax, kUptime, 0}, kDisrupted, 0, kAge, "stepped by "},
        QualityRow{"TheLastTrustedInstant", After(10 * kSecond), kSynchronised,
                   kBound + 500'000 + kHidden, kAge + 10 * kSecond, ""},
        QualityRow{"SilentForTooLong", After(10 * kSecond + 1), kUnknown, 0,
                   kAge + 10 * kSecond + 1, "nothing good was heard from chrony for 10.003"},
        QualityRow{"AStepIsNamedBeforeTheSilence", After(11 * kSecond, kHour), kDisrupted, 0,
                   kAge + 11 * kSecond, "stepped by 1h"},
        QualityRow{"BeforeTheSnapshot", After(-1), kUnknown, 0, kAge, "CLOCK_MONOTONIC is behind"},
        QualityRow{"BeforeTheSnapshotAndStepped", After(-kSecond, kHour), kUnknown, 0, kAge,
                   "CLOCK_MONOTONIC is behind"},
        QualityRow{"AfterThreeCenturies",
                   {kMax, kMax, 0},
                   kDisrupted,
                   0,
                   kAge + (kMax - kUptime),
                   "stepped by "}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(QualityAtUntrustedTest, StaysWhatItIsAndAges) {
  ClockSnapshot snapshot = Trusted();
  snapshot.quality.status = ClockStatus::kFreeRunning;
  snapshot.quality.trusted = false;
  snapshot.quality.error_bound_ns = 0;
  snapshot.quality.untrusted_reason = "it follows nothing";
  for (const ClockInstant& now :
       {After(0), After(kSecond), After(kSecond, kHour), After(kHour), After(-1)}) {
    const ClockQuality quality = QualityAt(snapshot, now);
    EXPECT_EQ(quality.status, ClockStatus::kFreeRunning);
    EXPECT_FALSE(quality.trusted);
    EXPECT_EQ(quality.error_bound_ns, 0);
    EXPECT_EQ(quality.untrusted_reason, "it follows nothing");
  }
  EXPECT_EQ(QualityAt(snapshot, After(kSecond)).age_ns, kAge + kSecond);
  EXPECT_EQ(QualityAt(snapshot, After(-kSecond)).age_ns, kAge) << "no time has passed";
}

TEST(QualityAtUntrustedTest, WhatWasNeverStatedHasNoAge) {
  const ClockQuality quality = QualityAt(ClockSnapshot(), After(kHour));
  EXPECT_FALSE(quality.trusted);
  EXPECT_EQ(quality.status, ClockStatus::kUnknown);
  EXPECT_EQ(quality.age_ns, 0);
}

TEST(QualityAtExtremesTest, ABoundThatCannotBeWrittenSaturates) {
  ClockSnapshot snapshot = Trusted();
  snapshot.trusted_until_ns = kMax;
  snapshot.drift_ppm = 1'000'000;
  // Both clocks went on alike, to the end of what one of them can show.
  const int64_t passed_ns = kMax - kWall;
  EXPECT_EQ(QualityAt(snapshot, After(passed_ns)).error_bound_ns, kBound + passed_ns + kHidden);
  for (const int64_t width_ns : {kMax / 2, kMax - 1, kMax}) {
    const ClockQuality quality = QualityAt(snapshot, After(passed_ns, 0, width_ns));
    EXPECT_TRUE(quality.trusted) << quality.untrusted_reason;
    EXPECT_EQ(quality.error_bound_ns, kMax) << width_ns;
  }
}

TEST(StatusNameTest, EveryStatusHasAName) {
  struct Row {
    ClockStatus status;
    const char* name;
  };
  for (const Row& row :
       {Row{ClockStatus::kUnknown, "unknown"}, Row{ClockStatus::kSynchronised, "synchronised"},
        Row{ClockStatus::kFreeRunning, "free-running"}, Row{ClockStatus::kDisrupted, "disrupted"},
        Row{static_cast<ClockStatus>(9), "unknown"}}) {
    EXPECT_STREQ(StatusName(row.status), row.name);
  }
}

// A daemon that selects a worse source slews the clock fast; the TSC shows it.
TEST(QualityAtSlewTest, WhatTheClockWasMovedAgainstTheTscCountsWhenItIsMoreThanDrift) {
  constexpr uint32_t kKhz = 2'000'000;
  constexpr int64_t kSecondNs = 1'000'000'000;
  struct Row {
    int64_t slewed_ns;  // in one second of the TSC
    int64_t growth_ns;
  };
  for (const Row& row : {Row{0, 50'000 + 2}, Row{20'000, 70'000 + 2}, Row{-20'000, 70'000 + 2},
                         Row{5'000'000, 5'050'000 + 2}, Row{-5'000'000, 5'050'000 + 2}}) {
    ClockSnapshot snapshot;
    snapshot.quality.status = ClockStatus::kSynchronised;
    snapshot.quality.trusted = true;
    snapshot.quality.error_bound_ns = 1'000;
    snapshot.taken = {kSecondNs, 5 * kSecondNs, 0, 77};
    snapshot.trusted_until_ns = 100 * kSecondNs;
    snapshot.drift_ppm = 50;
    snapshot.host_tsc_khz = kKhz;
    snapshot.tsc_rate_ppm = 50;
    const int64_t passed_ns = kSecondNs + row.slewed_ns;
    const ClockInstant now = {kSecondNs + passed_ns, 5 * kSecondNs + passed_ns, 0,
                              77 + uint64_t{2} * kSecondNs};
    const ClockQuality quality = QualityAt(snapshot, now);
    ASSERT_TRUE(quality.trusted);
    EXPECT_EQ(quality.error_bound_ns, 1'000 + row.growth_ns + 2) << row.slewed_ns;
    snapshot.host_tsc_khz = 0;  // not known: drift alone
    EXPECT_EQ(QualityAt(snapshot, now).error_bound_ns, 1'000 + DriftNs(passed_ns, 50) + 2);
  }
}

constexpr uint32_t kTscKhz = 2'000'000;

ClockSnapshot TrustedWithTsc(uint64_t host_tsc_ticks) {
  ClockSnapshot snapshot = Trusted();
  snapshot.host_tsc_khz = kTscKhz;
  snapshot.tsc_rate_ppm = 50;
  snapshot.taken.host_tsc_ticks = host_tsc_ticks;
  return snapshot;
}

TEST(MovedNsTest, IsWhatTheClocksShowAndWhatTheReadingsLeaveOpen) {
  struct Row {
    const char* name;
    int64_t tsc_ns;  // that passed by the TSC
    int64_t slewed_ns;
    int64_t width_ns;
    int64_t moved_ns;
  };
  // The snapshot's own reading is 60 ns wide.
  for (const Row& row : {
           Row{"at once", 0, 0, 0, kHidden},
           Row{"not slewed", kSecond, 0, 0, 50'000 + kHidden},
           Row{"forth", kSecond, 5'000, 0, 5'000 + 50'000 + kHidden},
           Row{"back", kSecond, -5'000, 0, 5'000 + 50'000 + kHidden},
           Row{"in a wide reading", kMs, -5'000, 700, 5'000 + 50 + 700 + kHidden},
           Row{"earlier", -kMs, 0, 0, kHidden},
           Row{"a TSC that stood still", 0, kSecond, 0, kSecond + kHidden},
       }) {
    ClockInstant later = After(row.tsc_ns + row.slewed_ns, 0, row.width_ns);
    later.host_tsc_ticks = 77 + static_cast<uint64_t>(2 * row.tsc_ns);
    EXPECT_EQ(MovedNs(TrustedWithTsc(77), later), row.moved_ns) << row.name;
    EXPECT_EQ(MovedNs(Trusted(), later), 0) << row.name << ", the TSC's frequency not known";
  }
}

TEST(QualityAtSlewTest, TheTscMayWrapMeanwhile) {
  constexpr uint64_t kTicks = uint64_t{2} * kSecond;
  for (const uint64_t start : {uint64_t{0}, std::numeric_limits<uint64_t>::max() - 5,
                               (uint64_t{1} << 63) - 5, std::numeric_limits<uint64_t>::max()}) {
    ClockInstant now = After(kSecond);
    now.host_tsc_ticks = start + kTicks;
    // By the TSC a second passed: the clock was not slewed. Its rate and the width remain.
    EXPECT_EQ(QualityAt(TrustedWithTsc(start), now).error_bound_ns,
              kBound + 50'000 + kHidden + kHidden)
        << start;
  }
}

TEST(QualityAtSlewTest, WhatTheWidthsHideOfASlewIsInTheBound) {
  for (const int64_t slewed_ns : {-5'000'000, -300, 0, 300, 5'000'000}) {
    for (const int64_t width_ns : {0, 300, 70'000}) {
      // The TSC may have been read anywhere within the width.
      for (const int64_t early_ns : {int64_t{0}, width_ns / 2, width_ns}) {
        ClockInstant now = After(kSecond + slewed_ns, 0, width_ns);
        now.host_tsc_ticks = static_cast<uint64_t>(2 * (kSecond - early_ns));
        const ClockQuality quality = QualityAt(TrustedWithTsc(0), now);
        ASSERT_TRUE(quality.trusted) << quality.untrusted_reason;
        EXPECT_GE(quality.error_bound_ns, kBound + std::abs(slewed_ns))
            << slewed_ns << " " << width_ns << " " << early_ns;
      }
    }
  }
}

TEST(QualityAtSlewTest, ATscThatJumpedLeavesNoTightBound) {
  struct Row {
    int64_t ticks;  // by which the TSC moved on in a second
    int64_t at_least_ns;
  };
  for (const Row& row :
       {Row{0, kSecond}, Row{-2 * kSecond, 2 * kSecond}, Row{2 * kHour, kHour - kSecond},
        Row{kMax, kMax / 4}, Row{std::numeric_limits<int64_t>::min(), kMax / 4}}) {
    ClockInstant now = After(kSecond);
    now.host_tsc_ticks = static_cast<uint64_t>(row.ticks);
    EXPECT_GE(QualityAt(TrustedWithTsc(0), now).error_bound_ns, row.at_least_ns) << row.ticks;
    // At 1 kHz it is a million times longer.
    ClockSnapshot slow = TrustedWithTsc(0);
    slow.host_tsc_khz = 1;
    slow.tsc_rate_ppm = std::numeric_limits<uint32_t>::max();
    EXPECT_GE(QualityAt(slow, now).error_bound_ns, row.at_least_ns) << row.ticks;
  }
}

}  // namespace
}  // namespace tsc_handoff::clock
