#include "server/clock/clock_tracker.h"

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kWall = 1'700'000'000 * kSecond;  // CLOCK_REALTIME at 0 ms of a script
constexpr int64_t kUptime = 5'000 * kSecond;        // CLOCK_MONOTONIC then
constexpr int64_t kBound = 400'000;
constexpr int64_t kAnswerMs = 1;  // how long the source takes to answer
constexpr int64_t kHidden = 2;    // what the rounding of two instants could hide

ClockInstant At(int64_t ms, int64_t stepped_ms = 0) {
  return {kWall + (ms + stepped_ms) * kMs, kUptime + ms * kMs, 0};
}

// --- What sources say. An update's time in the script is its identity, and says how long ago it
// was.

SourceReport Fixed() {
  SourceReport report;
  report.word = Word::kSynchronised;
  report.error_bound_ns = kBound;
  report.tai_offset_s = 37;
  report.source = "fixed";
  return report;
}

SourceReport Updated(int64_t update_ms, int64_t interval_ms = 16'000) {
  SourceReport report = Fixed();
  report.update_id = update_ms;
  report.update_interval_ns = interval_ms * kMs;
  report.source = "chrony";
  return report;
}

SourceReport Silent() {
  SourceReport report;
  report.problem = "chronyd does not answer";
  report.tai_offset_s = 37;
  report.source = "chrony";
  return report;
}

SourceReport Lost() {
  SourceReport report = Silent();
  report.word = Word::kUnsynchronised;
  report.problem = "the clock follows nothing";
  return report;
}

SourceReport LostAfter(int64_t update_ms) {
  SourceReport report = Updated(update_ms);
  report.word = Word::kUnsynchronised;
  report.problem = "the clock follows nothing";
  return report;
}

SourceReport WithTai(SourceReport report, int32_t tai_offset_s) {
  report.tai_offset_s = tai_offset_s;
  return report;
}

SourceReport WithBound(SourceReport report, int64_t error_bound_ns) {
  report.error_bound_ns = error_bound_ns;
  return report;
}

// --- Scripts: a host's clock, polled, and what is to be known after each poll.

struct Expected {
  ClockStatus status;
  bool trusted;
  const char* reason = "";
};
constexpr Expected kGood = {ClockStatus::kSynchronised, true};
constexpr Expected kFree = {ClockStatus::kFreeRunning, true};
constexpr Expected kFollowsNothing = {ClockStatus::kFreeRunning, false, "follows nothing"};
constexpr Expected kNoAnswer = {ClockStatus::kUnknown, false, "does not answer"};
constexpr Expected kOverdue = {ClockStatus::kUnknown, false, "has not disciplined the clock for"};
constexpr Expected kStepped = {ClockStatus::kUnknown, false, "wait for its next update"};
constexpr Expected kNoBound = {ClockStatus::kUnknown, false, "which no clock has"};

struct Poll {
  int64_t at_ms;
  SourceReport report;
  Expected expected;
  int64_t step_before_ms = 0;  // CLOCK_REALTIME is stepped between the last poll and this one
  int64_t step_during_ms = 0;  // while the source is asked
};

struct Script {
  const char* name;
  std::vector<Poll> polls;
  TrackerOptions options = {};
};

// Polls `tracker` as ClockMonitor does.
class Host {
 public:
  explicit Host(const TrackerOptions& options) : tracker_(options) {}

  void Run(const Poll& poll) {
    SourceReport report = poll.report;
    if (report.update_id.has_value())
      report.since_update_ns = (poll.at_ms - *report.update_id) * kMs;
    stepped_ms_ += poll.step_before_ms;
    const ClockInstant asked = At(poll.at_ms, stepped_ms_);
    stepped_ms_ += poll.step_during_ms;
    tracker_.Take(report, asked, At(poll.at_ms + kAnswerMs, stepped_ms_));
  }
  ClockQuality QualityAtMs(int64_t ms) const {
    return QualityAt(tracker_.snapshot(), At(ms, stepped_ms_));
  }
  const ClockSnapshot& snapshot() const { return tracker_.snapshot(); }

 private:
  ClockTracker tracker_;
  int64_t stepped_ms_ = 0;
};

class ClockTrackerScriptTest : public testing::TestWithParam<Script> {};

TEST_P(ClockTrackerScriptTest, KnowsAfterEachPoll) {
  Host host(GetParam().options);
  for (const Poll& poll : GetParam().polls) {
    SCOPED_TRACE("poll at " + std::to_string(poll.at_ms) + " ms");
    host.Run(poll);
    const ClockQuality quality = host.QualityAtMs(poll.at_ms + kAnswerMs);
    EXPECT_EQ(quality.status, poll.expected.status) << StatusName(quality.status);
    EXPECT_EQ(quality.trusted, poll.expected.trusted) << quality.untrusted_reason;
    EXPECT_EQ(quality.trusted, quality.error_bound_ns >= kBound);
    EXPECT_EQ(quality.untrusted_reason.empty(), quality.trusted) << quality.untrusted_reason;
    EXPECT_NE(quality.untrusted_reason.find(poll.expected.reason), std::string::npos)
        << quality.untrusted_reason;
    EXPECT_EQ(quality.tai_offset_s, poll.report.tai_offset_s);
    EXPECT_EQ(quality.source, poll.report.source);
  }
}

std::string ScriptName(const testing::TestParamInfo<Script>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    FirstWords, ClockTrackerScriptTest,
    testing::Values(
        Script{"AGoodWordIsBelievedAtOnce", {{0, Updated(-500), kGood}}},
        Script{"AFixedBoundIsBelievedAtOnce", {{0, Fixed(), kGood}, {1'000, Fixed(), kGood}}},
        Script{"NeverSynchronisedRunsFreelyAndIsNotTrusted",
               {{0, Lost(), kFollowsNothing}, {60'000, Lost(), kFollowsNothing}}},
        Script{"NoAnswerIsUnknown", {{0, Silent(), kNoAnswer}, {60'000, Silent(), kNoAnswer}}},
        Script{"TheFirstGoodWordEndsIt",
               {{0, Silent(), kNoAnswer},
                {1'000, Lost(), kFollowsNothing},
                {2'000, Updated(1'900), kGood}}},
        Script{"ABoundOfZeroIsNone", {{0, WithBound(Fixed(), 0), kNoBound}}},
        Script{"ANegativeBoundIsNone",
               {{0, WithBound(Fixed(), -1), kNoBound},
                {1'000, WithBound(Fixed(), std::numeric_limits<int64_t>::min()), kNoBound}}}),
    ScriptName);

INSTANTIATE_TEST_SUITE_P(
    Silence, ClockTrackerScriptTest,
    testing::Values(
        Script{"TrustedForAsLongAsIsPermitted",
               {{0, Updated(0), kGood},
                {1'000, Silent(), kFree},
                {9'999, Silent(), kFree},
                {10'000, Silent(), kNoAnswer},
                {11'000, Silent(), kNoAnswer}}},
        Script{"AFixedBoundThatIsGone",
               {{0, Fixed(), kGood}, {9'999, Silent(), kFree}, {10'000, Silent(), kNoAnswer}}},
        Script{"ByTheOption",
               {{0, Fixed(), kGood}, {2'999, Silent(), kFree}, {3'000, Silent(), kNoAnswer}},
               {.max_silence_ns = 3 * kSecond}},
        Script{"AReferenceThatIsLostIsASilence",
               {{0, Updated(0), kGood},
                {1'000, Lost(), kFree},
                {9'999, LostAfter(0), kFree},
                {10'000, Lost(), kFollowsNothing},
                {11'000, Silent(), kNoAnswer}}},
        Script{"ABoundThatIsNoneIsASilence",
               {{0, Updated(0), kGood},
                {1'000, WithBound(Updated(900), 0), kFree},
                {10'000, WithBound(Updated(9'900), 0), kNoBound}}},
        Script{"AGoodWordEndsIt",
               {{0, Updated(0), kGood},
                {1'000, Silent(), kFree},
                {2'000, Updated(0), kGood},
                {11'999, Silent(), kFree},
                {12'000, Silent(), kNoAnswer}}},
        Script{"AGoodWordEndsItHoweverLongItWas",
               {{0, Updated(0), kGood},
                {3'600'000, Silent(), kNoAnswer},
                {3'601'000, Updated(3'600'500), kGood},
                {3'602'000, Silent(), kFree}}},
        Script{"WhatWasTooLongAgoDoesNotComeBack",
               {{0, Updated(0), kGood},
                {10'000, Silent(), kNoAnswer},
                {10'001, Lost(), kFollowsNothing}}}),
    ScriptName);

INSTANTIATE_TEST_SUITE_P(
    MissedUpdates, ClockTrackerScriptTest,
    testing::Values(
        Script{"TwoLateUpdatesMeanNothing",
               {{0, Updated(0), kGood}, {16'000, Updated(0), kGood}, {47'999, Updated(0), kGood}}},
        Script{"ThreeLateUpdatesAreAFreeRun",
               {{48'000, Updated(0), kFree}, {127'998, Updated(0), kFree}}},
        Script{"EightAreTooMany", {{127'998, Updated(0), kFree}, {128'000, Updated(0), kOverdue}}},
        Script{"EightOfAnIntervalThatBecameShorterAreTooMany",
               {{0, Updated(-20'000), kGood}, {1'000, Updated(-20'000, 2'000), kOverdue}}},
        Script{"EightAreTooManyForASilenceToo",
               {{127'900, Updated(0), kFree}, {128'000, LostAfter(0), kFollowsNothing}}},
        Script{"TheNextUpdateEndsIt",
               {{48'000, Updated(0), kFree},
                {49'000, Updated(48'500), kGood},
                {200'000, Updated(48'500), kOverdue},
                {201'000, Updated(200'500), kGood}}},
        Script{"AMinuteWithoutUpdatesIsNothingForALongInterval",
               {{60'000, Updated(0, 1'024'000), kGood},
                {3'071'999, Updated(0, 1'024'000), kGood},
                {3'072'000, Updated(0, 1'024'000), kFree}}},
        Script{"AnIntervalBelowASecondCountsAsOne",
               {{2'999, Updated(0, 62), kGood},
                {3'000, Updated(0, 62), kFree},
                {7'998, Updated(0, 62), kFree},
                {8'000, Updated(0, 62), kOverdue}}},
        Script{"AnIntervalThatIsNotKnownCountsAsAMinute",
               {{191'999, Updated(0, 0), kGood},
                {192'000, Updated(0, 0), kFree},
                {512'000, Updated(0, 0), kOverdue}}},
        Script{"ByTheOption",
               {{63'998, Updated(0), kFree}, {64'000, Updated(0), kOverdue}},
               {.max_missed_updates = 4}},
        Script{"WhereNoneMayBeLate",
               {{15'998, Updated(0), kGood}, {16'000, Updated(0), kOverdue}},
               {.max_missed_updates = 1}},
        Script{"WhereNoUpdatesCanBeSeenNoneIsMissed",
               {{0, Fixed(), kGood}, {1'000'000'000, Fixed(), kGood}}}),
    ScriptName);

INSTANTIATE_TEST_SUITE_P(
    Steps, ClockTrackerScriptTest,
    testing::Values(Script{"BetweenPolls",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, 300},
                            {2'000, Updated(-500), kStepped},
                            {60'000, Updated(-500), kStepped},
                            {61'000, Updated(60'500), kGood},
                            {62'000, Updated(60'500), kGood}}},
                    Script{"BackBetweenPolls",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, -300},
                            {2'000, Updated(1'500), kGood}}},
                    Script{"ByAnHour",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, 3'600'000},
                            {2'000, Updated(1'500), kGood}}},
                    Script{"DuringAPoll",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(900), kStepped, 0, 300},
                            {2'000, Updated(900), kStepped},
                            {3'000, Updated(2'900), kGood}}},
                    Script{"DuringTheFirstPoll",
                           {{0, Updated(-500), kStepped, 0, -300},
                            {1'000, Updated(-500), kStepped},
                            {2'000, Updated(1'500), kGood}}},
                    Script{"ThereAndBackWithinAPollAndTheNext",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, 0, 300},
                            {2'000, Updated(1'500), kStepped, -300},
                            {3'000, Updated(2'500), kGood}}},
                    // chronyd steps the clock as a part of an update: that the update is right
                    // nobody else knows.
                    Script{"AnUpdateBetweenStepAndNoticeIsNotBelieved",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(700), kStepped, 300},
                            {2'000, Updated(700), kStepped},
                            {3'000, Updated(700), kStepped},
                            {4'000, Updated(3'500), kGood}}},
                    Script{
                        "AnUpdateFromBeforeTheStepIsNotBelieved",
                        {{0, Updated(-500), kGood},
                         {1'000, Silent(), {ClockStatus::kUnknown, false, "does not answer"}, 300},
                         {2'000, Updated(-500), kStepped},
                         {3'000, Updated(700), kStepped},
                         {4'000, Updated(3'500), kGood}}},
                    Script{"ASecondStepNeedsAnotherUpdate",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, 300},
                            {2'000, Updated(1'500), kStepped, -300},
                            {3'000, Updated(1'500), kStepped},
                            {4'000, Updated(3'500), kGood}}},
                    Script{"NoFreeRunFromBeforeTheStep",
                           {{0, Updated(-500), kGood},
                            {1'000, Silent(), kNoAnswer, 300},
                            {2'000, Silent(), kNoAnswer}}},
                    Script{"NoFreeRunFromBeforeTheStepForALostReference",
                           {{0, Updated(-500), kGood},
                            {1'000, Lost(), {ClockStatus::kUnknown, false, "follows nothing"}, 300},
                            {2'000, Lost(), {ClockStatus::kUnknown, false, "follows nothing"}},
                            {3'000, Updated(2'500), kStepped},
                            {4'000, Updated(3'500), kGood},
                            {5'000, Lost(), kFree}}},
                    Script{"AStepDuringAFreeRun",
                           {{0, Updated(-500), kGood},
                            {1'000, Silent(), kFree},
                            {2'000, Silent(), kNoAnswer, 300},
                            {3'000, Updated(2'500), kStepped},
                            {4'000, Updated(3'500), kGood}}},
                    Script{"AStepBeforeTheFirstGoodWord",
                           {{0, Silent(), kNoAnswer},
                            {1'000, Silent(), kNoAnswer, 300},
                            {2'000, Updated(500), kStepped},
                            {3'000, Updated(2'500), kGood}}},
                    Script{"AnOldStepIsOvercomeForGood",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, 300},
                            {2'000, Updated(1'500), kGood},
                            {3'000, Silent(), kFree},
                            {11'998, Silent(), kFree},
                            {12'000, Silent(), kNoAnswer}}},
                    Script{"AnOldStepIsOvercomeForTheStatusToo",
                           {{0, Updated(-500), kGood},
                            {1'000, Updated(-500), kStepped, 300},
                            {2'000, Updated(1'500), kGood},
                            {60'000, Lost(), kFollowsNothing}}},
                    // Nobody can see a fixed bound's updates, so time is all there is.
                    Script{"AFixedBoundIsBelievedAgainAfterTheSilence",
                           {{0, Fixed(), kGood},
                            {1'000, Fixed(), kStepped, 300},
                            {10'990, Fixed(), kStepped},
                            {11'010, Fixed(), kGood},
                            {12'000, Fixed(), kGood}}},
                    Script{"AFixedBoundIsBelievedAgainByTheOption",
                           {{0, Fixed(), kGood},
                            {1'000, Fixed(), kStepped, 300},
                            {3'990, Fixed(), kStepped},
                            {4'010, Fixed(), kGood}},
                           {.max_silence_ns = 3 * kSecond}}),
    ScriptName);

INSTANTIATE_TEST_SUITE_P(
    LeapSeconds, ClockTrackerScriptTest,
    testing::Values(
        Script{"InsertedWithTaiKnown",
               {{0, Updated(-500), kGood},
                {1'000, WithTai(Updated(-500), 38), kGood, -1'000},
                {2'000, WithTai(Silent(), 38), kFree},
                {3'000, WithTai(Updated(2'500), 38), kGood}}},
        Script{"InsertedDuringAFreeRun",
               {{0, Updated(-500), kGood},
                {1'000, WithTai(Silent(), 38), kFree, -1'000},
                {9'998, WithTai(Silent(), 38), kFree},
                {10'000, WithTai(Silent(), 38), kNoAnswer}}},
        Script{"DeletedWithTaiKnown",
               {{0, Updated(-500), kGood}, {1'000, WithTai(Updated(-500), 36), kGood, 1'000}}},
        Script{"WithoutTai",
               {{0, WithTai(Updated(-500), 0), kGood},
                {1'000, WithTai(Updated(-500), 0), kStepped, -1'000},
                {2'000, WithTai(Updated(1'500), 0), kGood}}},
        Script{"WithTaiKnownOnlyBefore",
               {{0, Updated(-500), kGood}, {1'000, WithTai(Updated(-500), 0), kStepped, -1'000}}},
        Script{"WithTaiKnownOnlyAfter",
               {{0, WithTai(Updated(-500), 0), kGood},
                {1'000, WithTai(Updated(-500), 38), kStepped, -1'000}}},
        // The kernel counts from 0 too.
        Script{"WithTaiOfOneThatWasNeverSet",
               {{0, WithTai(Updated(-500), 0), kGood},
                {1'000, WithTai(Updated(-500), 1), kStepped, -1'000}}},
        Script{"AStepOfASecondIsNone",
               {{0, Updated(-500), kGood}, {1'000, Updated(-500), kStepped, -1'000}}},
        Script{"TheWrongWayIsAStep",
               {{0, Updated(-500), kGood}, {1'000, WithTai(Updated(-500), 38), kStepped, 1'000}}},
        Script{"WithAStepBesides",
               {{0, Updated(-500), kGood}, {1'000, WithTai(Updated(-500), 38), kStepped, -1'001}}},
        Script{"TaiThatBecomesKnownIsNoStep",
               {{0, WithTai(Updated(-500), 0), kGood}, {1'000, Updated(-500), kGood}}},
        Script{"TaiThatIsCorrectedIsNoStep",
               {{0, Updated(-500), kGood}, {1'000, WithTai(Updated(-500), 38), kGood}}}),
    ScriptName);

// --- Bounds, ages and times.

TEST(ClockTrackerTest, NothingIsKnownBeforeTheFirstReport) {
  const ClockQuality quality = QualityAt(ClockTracker(TrackerOptions()).snapshot(), At(0));
  EXPECT_FALSE(quality.trusted);
  EXPECT_EQ(quality.status, ClockStatus::kUnknown);
  EXPECT_NE(quality.untrusted_reason, "");
  EXPECT_EQ(quality.age_ns, 0);
}

TEST(ClockTrackerTest, AReportWithoutAWordIsNeverGood) {
  SourceReport unsynchronised;
  unsynchronised.word = Word::kUnsynchronised;
  for (const SourceReport& report : {SourceReport(), unsynchronised}) {
    Host host({});
    host.Run({0, report, {}});
    EXPECT_FALSE(host.QualityAtMs(1).trusted);
    EXPECT_NE(host.QualityAtMs(1).untrusted_reason, "");
  }
}

TEST(ClockTrackerTest, TheBoundGrowsWithTheAgeThatItHadAlready) {
  struct Row {
    int64_t bound_age_ns;
    uint32_t drift_ppm;
    int64_t error_bound_ns;
  };
  for (const Row& row :
       {Row{0, 50, kBound}, Row{1, 50, kBound + 1}, Row{kSecond, 50, kBound + 50'000},
        Row{kSecond, 200, kBound + 200'000}, Row{16 * kSecond, 1'000, kBound + 16'000'000}}) {
    SourceReport report = Fixed();
    report.bound_age_ns = row.bound_age_ns;
    Host host({.drift_ppm = row.drift_ppm});
    host.Run({0, report, {}});
    EXPECT_EQ(host.snapshot().quality.error_bound_ns, row.error_bound_ns) << row.bound_age_ns;
    EXPECT_EQ(host.snapshot().quality.age_ns, row.bound_age_ns);
    EXPECT_EQ(host.snapshot().drift_ppm, row.drift_ppm);
    EXPECT_EQ(host.QualityAtMs(2'000).error_bound_ns,
              row.error_bound_ns + 2 * int64_t{row.drift_ppm} * 1'000 + kHidden)
        << "counted from when the source was asked";
    EXPECT_EQ(host.QualityAtMs(2'000).age_ns, row.bound_age_ns + 2 * kSecond);
  }
}

TEST(ClockTrackerTest, TheBoundGoesOnGrowingWhileTheSourceIsSilent) {
  Host host({});
  host.Run({0, Updated(0), {}});
  for (int64_t ms = 1'000; ms < 10'000; ms += 1'000) {
    host.Run({ms, Silent(), {}});
    const ClockQuality quality = host.QualityAtMs(ms + 500);
    ASSERT_TRUE(quality.trusted) << quality.untrusted_reason;
    EXPECT_EQ(quality.error_bound_ns, kBound + (ms + 500) * 50 + kHidden) << ms;
    EXPECT_EQ(quality.age_ns, (ms + 500) * kMs) << ms;
  }
  EXPECT_EQ(host.QualityAtMs(10'001).status, ClockStatus::kUnknown) << "nobody need poll for it";
}

TEST(ClockTrackerTest, AGoodWordRenewsTheBound) {
  Host host({});
  host.Run({0, Updated(0), {}});
  host.Run({1'000, Silent(), {}});
  host.Run({2'000, WithBound(Updated(0), 2 * kBound), {}});
  EXPECT_EQ(host.QualityAtMs(3'000).error_bound_ns, 2 * kBound + 50'000 + kHidden);
  EXPECT_EQ(host.QualityAtMs(3'000).age_ns, kSecond);
}

TEST(ClockTrackerTest, AgeIsThatOfTheLastGoodWord) {
  Host host({});
  host.Run({0, Silent(), {}});
  EXPECT_EQ(host.QualityAtMs(500).age_ns, 0) << "there was none";
  host.Run({1'000, Updated(900), {}});
  host.Run({2'000, Silent(), {}, 300});
  EXPECT_EQ(host.QualityAtMs(2'500).age_ns, 1'500 * kMs) << "over a step";
  host.Run({60'000, Silent(), {}});
  EXPECT_EQ(host.QualityAtMs(60'500).age_ns, 59'500 * kMs) << "over a long silence";
}

TEST(ClockTrackerTest, IsTrustedNoLongerThanUpdatesMayBeMissed) {
  struct Row {
    const char* name;
    std::optional<int64_t> since_update_ns;
    int64_t interval_ns;
    uint32_t max_missed_updates;
    int64_t max_silence_ns;
    int64_t holds_ns;
  };
  for (const Row& row : {
           Row{"just updated", 0, 16 * kSecond, 8, 10 * kSecond, 10 * kSecond},
           Row{"the silence is shorter", 100 * kSecond, 16 * kSecond, 8, 10 * kSecond,
               10 * kSecond},
           Row{"the updates are nearer", 126 * kSecond, 16 * kSecond, 8, 10 * kSecond, 2 * kSecond},
           Row{"the last ns", 128 * kSecond - 1, 16 * kSecond, 8, 10 * kSecond, 1},
           Row{"short intervals", 5'500 * kMs, 62 * kMs, 8, 10 * kSecond, 2'500 * kMs},
           Row{"no interval", 510 * kSecond, 0, 8, 10 * kSecond, 2 * kSecond},
           Row{"few may be missed", 0, 2 * kSecond, 1, 10 * kSecond, 2 * kSecond},
           Row{"many may be missed", 500 * kSecond, kSecond, 1'000, 10 * kSecond, 10 * kSecond},
           Row{"a huge interval", 0, kMax, 1'000, 10 * kSecond, 10 * kSecond},
           Row{"a long silence", 0, 16 * kSecond, 8, 3'600 * kSecond, 128 * kSecond},
           Row{"no updates to see", std::nullopt, 0, 1, 10 * kSecond, 10 * kSecond},
       }) {
    SCOPED_TRACE(row.name);
    SourceReport report = Fixed();
    if (row.since_update_ns.has_value()) {
      report.update_id = 1;
      report.since_update_ns = *row.since_update_ns;
      report.update_interval_ns = row.interval_ns;
    }
    ClockTracker tracker({50, row.max_missed_updates, row.max_silence_ns});
    tracker.Take(report, At(0), At(kAnswerMs));
    EXPECT_EQ(tracker.snapshot().trusted_until_ns, kUptime + row.holds_ns);
  }
}

// The poll that notices the step gets no answer; the next one tells of the update from before it,
// whose age, by the clock that was set back, seems to be nothing.
TEST(ClockTrackerTest, WithoutAnAnswerAtTheStepTheFirstUpdateHeardOfIsNotBelieved) {
  ClockTracker tracker({});
  const auto back = [](int64_t ms) {
    ClockInstant instant = At(ms);
    instant.realtime_ns -= 7 * kSecond;
    return instant;
  };
  SourceReport report = Updated(0);
  report.update_id = 1;
  report.since_update_ns = 0;
  tracker.Take(report, At(0), At(1));
  tracker.Take(SourceReport(), back(4'000), back(4'001));
  tracker.Take(report, back(6'000), back(6'001));
  EXPECT_FALSE(tracker.snapshot().quality.trusted);
  report.update_id = 2;
  tracker.Take(report, back(8'000), back(8'001));
  EXPECT_TRUE(tracker.snapshot().quality.trusted);
}

TEST(ClockTrackerTest, TheTscIsThatOfTheQuestion) {
  TrackerOptions options;
  options.host_tsc_khz = 2'600'000;
  options.tsc_rate_ppm = 33;
  ClockTracker tracker(options);
  const auto with_tsc = [](ClockInstant instant, uint64_t host_tsc_ticks) {
    instant.host_tsc_ticks = host_tsc_ticks;
    return instant;
  };
  tracker.Take(Updated(0), with_tsc(At(0), 100), with_tsc(At(1), 101));
  for (const bool silent : {false, true}) {
    if (silent) tracker.Take(Silent(), with_tsc(At(1'000), 200), with_tsc(At(1'001), 201));
    EXPECT_TRUE(tracker.snapshot().quality.trusted);
    EXPECT_EQ(tracker.snapshot().taken.monotonic_ns, kUptime) << "of the last good word";
    EXPECT_EQ(tracker.snapshot().taken.host_tsc_ticks, 100u) << "of the last good word";
    EXPECT_EQ(tracker.snapshot().host_tsc_khz, 2'600'000u);
    EXPECT_EQ(tracker.snapshot().tsc_rate_ppm, 33u);
  }
}

// The source may have stated its bound at any moment until it answered. If the clock was slewed
// meanwhile, and back afterwards, it has not moved since the question, but since the statement.
TEST(ClockTrackerTest, WhatTheClockMovedWhileTheSourceAnsweredIsInTheBound) {
  constexpr uint32_t kKhz = 2'000'000;
  constexpr uint32_t kRatePpm = 50;
  struct Row {
    const char* name;
    int64_t answer_ns;  // by the TSC, from the question to the answer
    int64_t slewed_ns;  // meanwhile, and back by as much in the second after
    int64_t width_ns;   // of each reading
    int64_t added_ns;   // to the bound
  };
  for (const Row& row : {
           Row{"at once", 0, 0, 0, kHidden},
           Row{"a quick answer costs next to nothing", 200'000, 0, 60, 10 + 2 * 60 + kHidden},
           Row{"a slow one costs the TSC's rate", 100 * kMs, 0, 0, 5'000 + kHidden},
           Row{"slewed forth", 100 * kMs, 150'000, 0, 150'000 + 5'000 + kHidden},
           Row{"slewed back", 100 * kMs, -150'000, 0, 150'000 + 5'000 + kHidden},
           Row{"slewed within wide readings", 100 * kMs, 150'000, 700,
               150'000 + 5'000 + 2 * 700 + kHidden},
       }) {
    SCOPED_TRACE(row.name);
    ClockTracker tracker({.host_tsc_khz = kKhz, .tsc_rate_ppm = kRatePpm});
    // `tsc_ns` after the question by the TSC, with the clock moved against it.
    const auto instant = [&row](int64_t tsc_ns, int64_t moved_ns) {
      return ClockInstant{kWall + tsc_ns + moved_ns, kUptime + tsc_ns + moved_ns, row.width_ns,
                          static_cast<uint64_t>(2 * tsc_ns)};
    };
    tracker.Take(Updated(0), instant(0, 0), instant(row.answer_ns, row.slewed_ns));
    EXPECT_EQ(tracker.snapshot().quality.error_bound_ns, kBound + row.added_ns);
    // Back where it was: the bound may have been stated of a clock that was off by slewed_ns more.
    const ClockQuality quality = QualityAt(tracker.snapshot(), instant(kSecond, 0));
    ASSERT_TRUE(quality.trusted) << quality.untrusted_reason;
    EXPECT_GE(quality.error_bound_ns, kBound + std::abs(row.slewed_ns));
    EXPECT_EQ(tracker.snapshot().taken.monotonic_ns, kUptime) << "aged from the question";
  }
  // Without a TSC to go by there is only drift.
  ClockTracker tracker({});
  tracker.Take(Updated(0), At(0), At(100));
  EXPECT_EQ(tracker.snapshot().quality.error_bound_ns, kBound);
}

// A claim as huge as this is of no use, but must not turn into a small one.
TEST(ClockTrackerTest, ABoundThatCannotBeWrittenSaturates) {
  TrackerOptions options;
  options.host_tsc_khz = 2'000'000;
  ClockTracker tracker(options);
  tracker.Take(WithBound(Updated(0), kMax), At(0), At(100));
  EXPECT_EQ(tracker.snapshot().quality.error_bound_ns, kMax);
}

TEST(ClockTrackerTest, ASourceOverdueForEverDoesNotOverflow) {
  SourceReport report = Updated(0);
  report.since_update_ns = kMax;
  ClockTracker tracker({});
  tracker.Take(report, At(0), At(kAnswerMs));
  EXPECT_FALSE(tracker.snapshot().quality.trusted);
  EXPECT_NE(tracker.snapshot().quality.untrusted_reason.find("of its intervals"),
            std::string::npos);
}

TEST(ClockTrackerTest, PassesOnWhatTheSourceSaysBesides) {
  SourceReport report = Updated(0);
  report.leap_second = true;
  report.frequency_correction = -3.5e-6;
  Host host({});
  host.Run({0, report, {}});
  EXPECT_TRUE(host.snapshot().quality.leap_second);
  EXPECT_EQ(host.snapshot().quality.frequency_correction, -3.5e-6);
  // It is the newest word that counts, in a free run and without trust too.
  SourceReport silent = Silent();
  silent.tai_offset_s = 0;
  silent.frequency_correction = 1e-6;
  for (const int64_t ms : {1'000, 60'000}) {
    host.Run({ms, silent, {}});
    EXPECT_FALSE(host.snapshot().quality.leap_second) << ms;
    EXPECT_EQ(host.snapshot().quality.frequency_correction, 1e-6) << ms;
    EXPECT_EQ(host.snapshot().quality.tai_offset_s, 0) << ms;
  }
}

// --- Steps that are hard to see.

ClockInstant WideAt(int64_t ms, int64_t width_ns, int64_t stepped_ns) {
  ClockInstant instant = At(ms);
  instant.realtime_ns += stepped_ns;
  instant.width_ns = width_ns;
  return instant;
}

TEST(ClockTrackerTest, WhatTheWidthsExplainIsNoStep) {
  for (const int64_t step_ns : {-102, 102, -103, 103}) {
    ClockTracker tracker({});
    tracker.Take(Fixed(), WideAt(0, 40, 0), WideAt(1, 40, 0));
    tracker.Take(Fixed(), WideAt(1'000, 60, step_ns), WideAt(1'001, 60, step_ns));
    const bool stepped = step_ns < -102 || step_ns > 102;
    EXPECT_EQ(tracker.snapshot().quality.trusted, !stepped) << step_ns;
  }
}

// Each is too small to be seen between two polls.
TEST(ClockTrackerTest, ManySmallStepsDoNotAddUpUnseen) {
  for (const int64_t each_ns : {-50, 50}) {
    ClockTracker tracker({});
    bool seen = false;
    for (int64_t poll = 0; poll < 1'000 && !seen; ++poll) {
      const int64_t stepped_ns = poll * each_ns;
      const int64_t ms = poll * 1'000;
      tracker.Take(Updated(0, 1'024'000), WideAt(ms, 40, stepped_ns),
                   WideAt(ms + 1, 40, stepped_ns));
      const ClockQuality quality = QualityAt(tracker.snapshot(), WideAt(ms + 1, 40, stepped_ns));
      seen = !quality.trusted;
      ASSERT_TRUE(seen || quality.error_bound_ns >= kBound + poll * 50) << poll;
    }
    EXPECT_TRUE(seen) << "50 us by " << each_ns << " ns each";
  }
}

// The source's word is as of its answer. The daemon updated the clock after its answer and before
// the step; seen from the next poll that update is a new one.
TEST(ClockTrackerTest, AnUpdateMadeWhileTheStepWasNotYetNoticedIsNotBelieved) {
  constexpr int64_t kStepMs = 300;
  SourceReport before = Updated(-500);
  before.since_update_ns = 500 * kMs;
  SourceReport after = Updated(1'100);
  after.since_update_ns = 900 * kMs;  // as of 2,000 ms, when the source was asked
  ClockTracker tracker({});
  tracker.Take(before, At(0), At(200));
  // Updated at 1,100 ms, stepped at 1,150 ms, noticed at 1,200 ms.
  tracker.Take(before, At(1'000), At(1'200, kStepMs));
  tracker.Take(after, At(2'000, kStepMs), At(2'200, kStepMs));
  EXPECT_FALSE(tracker.snapshot().quality.trusted);
  // The next one is believed.
  after.update_id = 2'500;
  after.since_update_ns = 500 * kMs;
  tracker.Take(after, At(3'000, kStepMs), At(3'200, kStepMs));
  EXPECT_TRUE(tracker.snapshot().quality.trusted) << tracker.snapshot().quality.untrusted_reason;
}

// A daemon that reckons by the wall clock may find its last update younger after a step.
TEST(ClockTrackerTest, AnUpdateThatOnlySeemsToBeYoungIsNotBelieved) {
  SourceReport report = Updated(-5'000);
  report.since_update_ns = 5'000 * kMs;
  ClockTracker tracker({});
  tracker.Take(report, At(0), At(1));
  report.since_update_ns = 0;
  for (const int64_t ms : {1'000, 2'000, 60'000}) {
    tracker.Take(report, At(ms, -6'000), At(ms + 1, -6'000));
    EXPECT_FALSE(tracker.snapshot().quality.trusted) << ms;
  }
}

// A reading that was interrupted sees little. The others see the step.
TEST(ClockTrackerTest, AWideReadingHidesNoStep) {
  constexpr int64_t kWide = 5 * kMs;
  constexpr int64_t kStep = 1 * kMs;
  struct Row {
    const char* name;
    ClockInstant first_asked;
    ClockInstant asked;
    ClockInstant answered;
  };
  for (const Row& row :
       {Row{"after the answer", At(0), WideAt(1'000, 0, kStep), WideAt(1'010, kWide, kStep)},
        Row{"before the question", At(0), WideAt(1'000, kWide, kStep), WideAt(1'010, 0, kStep)},
        Row{"at the start", WideAt(0, kWide, 0), At(1'000), WideAt(1'010, 0, kStep)}}) {
    ClockTracker tracker({});
    tracker.Take(Updated(0), row.first_asked, At(10));
    ASSERT_TRUE(tracker.snapshot().quality.trusted) << row.name;
    tracker.Take(Updated(0), row.asked, row.answered);
    EXPECT_FALSE(tracker.snapshot().quality.trusted) << row.name;
  }
}

}  // namespace
}  // namespace tsc_handoff::clock
