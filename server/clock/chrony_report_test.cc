#include "server/clock/chrony_report.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "server/clock/chrony_reply.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;
constexpr int64_t kUpdateNs = 1'700'000'000'250'000'000;  // of a ChronyReply
constexpr int64_t kNowNs = kUpdateNs + 5 * kSecond;

ChronyTracking Sent(const ChronyReply& reply = {}) {
  const auto tracking = ParseTrackingReply(reply.Bytes(1), 1);
  EXPECT_TRUE(tracking.ok()) << tracking.status();
  return tracking.value_or(ChronyTracking());
}

TEST(ReportFromTrackingTest, AddsUpTheBound) {
  const SourceReport report = ReportFromTracking(Sent(), kNowNs);
  EXPECT_EQ(report.word, Word::kSynchronised) << report.problem;
  EXPECT_EQ(report.problem, "");
  EXPECT_GT(report.error_bound_ns, 1'500'000) << "250 us + 750 us + 1 ms / 2, rounded up";
  EXPECT_LE(report.error_bound_ns, 1'500'001);
  EXPECT_EQ(report.bound_age_ns, 0);
  EXPECT_EQ(report.since_update_ns, 5 * kSecond);
  EXPECT_EQ(report.update_interval_ns, 64 * kSecond);
  EXPECT_FALSE(report.leap_second);
  EXPECT_DOUBLE_EQ(report.frequency_correction, 12.5e-6) << "against the oscillator's error";
  EXPECT_EQ(report.source, "chrony");
}

// What was sent has been rounded; the bound must not be, downwards.
TEST(ReportFromTrackingTest, CoversTheRoundingOfWhatWasSent) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> part(1e-9, 5.0);
  for (int i = 0; i < 10'000; ++i) {
    ChronyReply reply;
    reply.correction_s = part(random) - 2.5;
    reply.root_delay_s = part(random);
    reply.root_dispersion_s = part(random);
    const double true_bound_s =
        std::abs(reply.correction_s) + reply.root_dispersion_s + reply.root_delay_s / 2;
    const SourceReport report = ReportFromTracking(Sent(reply), kNowNs);
    ASSERT_GE(static_cast<double>(report.error_bound_ns), true_bound_s * 1e9);
    ASSERT_LE(static_cast<double>(report.error_bound_ns), true_bound_s * 1e9 * (1 + 1e-6) + 1);
  }
}

struct Row {
  const char* name;
  ChronyReply reply;
  Word word;
  const char* problem;
};

class ReportTest : public testing::TestWithParam<Row> {};

TEST_P(ReportTest, Judges) {
  const Row& row = GetParam();
  const SourceReport report = ReportFromTracking(Sent(row.reply), kNowNs);
  EXPECT_EQ(report.word, row.word) << report.problem;
  EXPECT_EQ(report.problem.empty(), row.word == Word::kSynchronised);
  EXPECT_NE(report.problem.find(row.problem), std::string::npos) << report.problem;
  EXPECT_EQ(report.error_bound_ns > 0, row.word == Word::kSynchronised);
}

INSTANTIATE_TEST_SUITE_P(
    Unsynchronised, ReportTest,
    testing::Values(
        Row{"ByLeapStatus", {.leap_status = 3}, Word::kUnsynchronised, "not synchronised"},
        Row{"StratumZero", {.stratum = 0}, Word::kUnsynchronised, "not synchronised"},
        Row{"StratumSixteen", {.stratum = 16}, Word::kUnsynchronised, "not synchronised"},
        Row{"StratumFifteen", {.stratum = 15}, Word::kSynchronised, ""},
        Row{"StratumOne", {.stratum = 1}, Word::kSynchronised, ""},
        Row{"AtTheStart",
            {.reference_id = 0,
             .stratum = 0,
             .leap_status = 3,
             .reference_s = 0,
             .reference_nanoseconds = 0,
             .root_delay_s = 1,
             .root_dispersion_s = 1,
             .update_interval_s = 0},
            Word::kUnsynchronised,
            "chronyc sources"},
        Row{"FollowsItsOwnClock",
            {.reference_id = 0x7f7f0101,
             .correction_s = 0,
             .root_delay_s = 0,
             .root_dispersion_s = 0},
            Word::kUnsynchronised,
            "--clock fixed:DURATION"},
        Row{"SlewsForHours", {.correction_s = -3600}, Word::kUnsynchronised, "makestep"},
        Row{"SlewsForYears", {.correction_s = 4e18}, Word::kUnsynchronised, "makestep"}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Absurd, ReportTest,
    testing::Values(
        Row{"UnknownLeapStatus", {.leap_status = 4}, Word::kNoAnswer, "leap status 4"},
        Row{"NegativeRootDelay", {.root_delay_s = -1e-9}, Word::kNoAnswer, "root delay"},
        Row{"HugeRootDelay", {.root_delay_s = 16.01}, Word::kNoAnswer, "root delay"},
        Row{"LargestRootDelay", {.root_delay_s = 16}, Word::kSynchronised, ""},
        Row{"NoRootDelay", {.root_delay_s = 0}, Word::kSynchronised, ""},
        Row{"NegativeRootDispersion", {.root_dispersion_s = -0.5}, Word::kNoAnswer, "dispersion"},
        Row{"NoRootDispersion", {.root_dispersion_s = 0}, Word::kNoAnswer, "dispersion"},
        Row{"HugeRootDispersion", {.root_dispersion_s = 1e9}, Word::kNoAnswer, "dispersion"},
        Row{"ErrorOfZero",
            {.correction_s = 0, .root_delay_s = 0, .root_dispersion_s = 0},
            Word::kNoAnswer,
            "makes no sense"},
        Row{"NegativeInterval", {.update_interval_s = -1}, Word::kNoAnswer, "update interval"},
        Row{"HugeInterval", {.update_interval_s = 1e8}, Word::kNoAnswer, "update interval"},
        Row{"IntervalNotKnownYet", {.update_interval_s = 0}, Word::kSynchronised, ""},
        Row{"HugeFrequency", {.frequency_ppm = -2e6}, Word::kNoAnswer, "frequency"},
        Row{"UpdateAtNoTime",
            {.reference_s = 0, .reference_nanoseconds = 0},
            Word::kNoAnswer,
            "no time at all"},
        Row{"UpdateInTheFuture", {.reference_s = 1'700'000'007}, Word::kNoAnswer, "in the future"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(ReportFromTrackingTest, AnUpdateShortlyAheadIsJustNow) {
  const SourceReport report = ReportFromTracking(Sent(), kUpdateNs - kSecond);
  EXPECT_EQ(report.word, Word::kSynchronised) << report.problem;
  EXPECT_EQ(report.since_update_ns, 0);
  EXPECT_EQ(ReportFromTracking(Sent(), kUpdateNs - kSecond - 1).word, Word::kNoAnswer);
}

TEST(ReportFromTrackingTest, NoUpdateIsExpectedSoonerThanChronydPollsByDefault) {
  struct IntervalRow {
    const char* name;
    double last_s;
    int64_t expected_ns;
  };
  for (const IntervalRow& row : {
           IntervalRow{"before the second update", 0, 64 * kSecond},
           IntervalRow{"a poll of a 64th of a second", 1.0 / 64, 64 * kSecond},
           IntervalRow{"after the burst at the start", 2, 64 * kSecond},
           IntervalRow{"just below", 63.5, 64 * kSecond},
           IntervalRow{"minpoll 6", 64, 64 * kSecond},
           IntervalRow{"just above", 64.5, 64'500 * kMs},
           IntervalRow{"maxpoll 10", 1'024, 1'024 * kSecond},
       }) {
    const SourceReport report = ReportFromTracking(Sent({.update_interval_s = row.last_s}), kNowNs);
    EXPECT_EQ(report.word, Word::kSynchronised) << report.problem;
    EXPECT_EQ(report.update_interval_ns, row.expected_ns) << row.name;
  }
}

TEST(ReportFromTrackingTest, ALeapSecondIsNoRefusal) {
  for (const uint16_t leap_status : {1, 2}) {
    const SourceReport report = ReportFromTracking(Sent({.leap_status = leap_status}), kNowNs);
    EXPECT_EQ(report.word, Word::kSynchronised) << report.problem;
    EXPECT_TRUE(report.leap_second);
  }
}

struct Field {
  size_t begin;
  double bound_s;  // its part in the bound of a ChronyReply
};
// Nothing in the protocol guards these three; all others cannot make the bound smaller.
constexpr Field kCorrection = {68, 0.000'25};
constexpr Field kRootDelay = {92, 0.000'5};
constexpr Field kRootDispersion = {96, 0.000'75};

TEST(FlippedBitTest, OnlyTheThreePartsOfTheBoundCanMakeItSmaller) {
  constexpr int64_t kGoodNs = 1'500'000;
  const std::string good = ChronyReply().Bytes(1);
  int believed = 0;
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string datagram = good;
    datagram[bit / 8] = static_cast<char>(datagram[bit / 8] ^ (1 << (bit % 8)));
    const auto tracking = ParseTrackingReply(datagram, 1);
    if (!tracking.ok()) continue;
    const SourceReport report = ReportFromTracking(*tracking, kNowNs);
    if (report.word != Word::kSynchronised) {
      EXPECT_NE(report.problem, "") << "bit " << bit;
      EXPECT_EQ(report.error_bound_ns, 0) << "bit " << bit;
      continue;
    }
    ++believed;
    int64_t least_ns = kGoodNs;
    for (const Field& field : {kCorrection, kRootDelay, kRootDispersion}) {
      if (bit / 8 >= field.begin && bit / 8 < field.begin + 4)
        least_ns -= static_cast<int64_t>(field.bound_s * 1e9);
    }
    EXPECT_GE(report.error_bound_ns, least_ns) << "bit " << bit;
    EXPECT_LE(report.error_bound_ns, 40 * kSecond) << "bit " << bit;
    EXPECT_GE(report.since_update_ns, 0) << "bit " << bit;
    EXPECT_GE(report.update_interval_ns, 0) << "bit " << bit;
  }
  EXPECT_GT(believed, 100) << "the test must reach what it is about";
}

TEST(RandomBodyTest, IsRefusedOrHasABoundAboveZero) {
  std::mt19937_64 random(42);
  const std::string good = ChronyReply().Bytes(1);
  int parsed = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string datagram = good;
    // Some fields only: with all of them random, next to nothing would get beyond the first check.
    const size_t begin = 28 + random() % 76;
    for (size_t at = begin; at < datagram.size() && at < begin + random() % 40; ++at)
      datagram[at] = static_cast<char>(random());
    const auto tracking = ParseTrackingReply(datagram, 1);
    if (!tracking.ok()) continue;
    ++parsed;
    const SourceReport report = ReportFromTracking(*tracking, kNowNs);
    if (report.word == Word::kSynchronised) {
      ASSERT_GT(report.error_bound_ns, 0);
      ASSERT_LE(report.error_bound_ns, 41 * kSecond);
    } else {
      ASSERT_NE(report.problem, "");
    }
  }
  EXPECT_GT(parsed, 10'000);
}

TEST(UpdateNamesTest, AShiftBySlewingIsNoUpdate) {
  UpdateNames names;
  int64_t update_ns = kUpdateNs;
  const int64_t name = names.NameOf(update_ns);
  for (int i = 0; i < 10'000; ++i) {
    update_ns += i % 3 == 0 ? -900'000 : 999'999;  // wanders by seconds in the end
    ASSERT_EQ(names.NameOf(update_ns), name);
  }
}

TEST(UpdateNamesTest, EachUpdateHasAnotherName) {
  UpdateNames names;
  const int64_t first = names.NameOf(kUpdateNs);
  const int64_t second = names.NameOf(kUpdateNs + kMs);
  EXPECT_NE(second, first);
  EXPECT_NE(names.NameOf(kUpdateNs + 64 * kSecond), second);
}

TEST(UpdateNamesTest, AnUpdateInASteppedBackTimeIsOne) {
  UpdateNames names;
  const int64_t first = names.NameOf(kUpdateNs);
  EXPECT_NE(names.NameOf(kUpdateNs - 3600 * kSecond), first);
}

}  // namespace
}  // namespace tsc_handoff::clock
