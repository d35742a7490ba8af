#include "server/clock/kernel_clock_source.h"

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "server/clock/kernel_timex.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr int64_t kSecond = 1'000'000'000;

// What adjtimex returns and fills in. The defaults are those of a host under chrony.
struct Kernel {
  int result = TIME_OK;
  int status = STA_PLL;
  long max_error_us = 989;
  int tai_s = 37;
  long freq = 0;

  int Fill(timex* values) const {
    EXPECT_EQ(values->modes, 0u) << "the clock must only be read";
    if (result < 0) return result;
    values->status = status;
    values->maxerror = max_error_us;
    values->esterror = 12;
    values->tai = tai_s;
    values->freq = freq;
    return result;
  }
  Adjtimex Call() const {
    return [*this](timex* values) { return Fill(values); };
  }
};

struct Row {
  const char* name;
  Kernel kernel;
  Word word;
  int64_t error_bound_ns;
  const char* problem;
};

class KernelClockSourceTest : public testing::TestWithParam<Row> {};

TEST_P(KernelClockSourceTest, Ask) {
  const Row& row = GetParam();
  const SourceReport report = KernelClockSource(row.kernel.Call()).Ask(kSecond);
  EXPECT_EQ(report.word, row.word) << report.problem;
  EXPECT_EQ(report.error_bound_ns, row.error_bound_ns);
  EXPECT_EQ(report.source, "kernel");
  EXPECT_EQ(report.problem.empty(), row.word == Word::kSynchronised);
  EXPECT_NE(report.problem.find(row.problem), std::string::npos) << report.problem;
}

constexpr int64_t kBoundNs = 989'000;

INSTANTIATE_TEST_SUITE_P(
    Words, KernelClockSourceTest,
    testing::Values(
        Row{"Synchronised", {}, Word::kSynchronised, kBoundNs, ""},
        Row{"SmallestError", {.max_error_us = 1}, Word::kSynchronised, 1000, ""},
        Row{"LargestError", {.max_error_us = 16'000'000}, Word::kSynchronised, 16 * kSecond, ""},
        Row{"ErrorAboveSixteenSeconds",
            {.max_error_us = 16'000'001},
            Word::kNoAnswer,
            0,
            "16000001 us makes no sense"},
        Row{"HugeError",
            {.max_error_us = std::numeric_limits<long>::max()},
            Word::kNoAnswer,
            0,
            "makes no sense"},
        Row{"NegativeError", {.max_error_us = -1}, Word::kNoAnswer, 0, "-1 us makes no sense"},
        Row{"MostNegativeError",
            {.max_error_us = std::numeric_limits<long>::min()},
            Word::kNoAnswer,
            0,
            "no sense"},
        Row{"ErrorOfZero", {.max_error_us = 0}, Word::kNoAnswer, 0, "an error of 0"},
        Row{"UnsynchronisedByStatus",
            {.status = STA_PLL | STA_UNSYNC},
            Word::kUnsynchronised,
            0,
            "not synchronised"},
        Row{"UnsynchronisedByResult",
            {.result = TIME_ERROR},
            Word::kUnsynchronised,
            0,
            "not synchronised"},
        Row{"NeverSynchronised",
            {.result = TIME_ERROR, .status = STA_UNSYNC, .max_error_us = 16'000'000, .tai_s = 0},
            Word::kUnsynchronised,
            0,
            "not synchronised"},
        Row{"UnknownResult", {.result = 9}, Word::kNoAnswer, 0, "unknown clock state 9"},
        Row{"NotPermitted",
            {.result = -EPERM},
            Word::kNoAnswer,
            0,
            "adjtimex failed: Operation not permitted"},
        Row{"Fault", {.result = -EFAULT}, Word::kNoAnswer, 0, "adjtimex failed: Bad address"},
        Row{"LeapSecondToday", {.result = TIME_INS}, Word::kSynchronised, kBoundNs, ""},
        Row{"LeapSecondInProgress", {.result = TIME_OOP}, Word::kSynchronised, kBoundNs, ""}),
    [](const auto& row) { return std::string(row.param.name); });

struct TaiRow {
  const char* name;
  Kernel kernel;
  int32_t tai_offset_s;
  bool leap_second;
};

class KernelTaiTest : public testing::TestWithParam<TaiRow> {};

TEST_P(KernelTaiTest, IsTakenOver) {
  const TaiRow& row = GetParam();
  const SourceReport report = KernelClockSource(row.kernel.Call()).Ask(kSecond);
  EXPECT_EQ(report.tai_offset_s, row.tai_offset_s);
  EXPECT_EQ(report.leap_second, row.leap_second);
}

INSTANTIATE_TEST_SUITE_P(
    Table, KernelTaiTest,
    testing::Values(TaiRow{"Known", {}, 37, false}, TaiRow{"NotKnown", {.tai_s = 0}, 0, false},
                    TaiRow{"Negative", {.tai_s = -37}, 0, false},
                    TaiRow{"Smallest", {.tai_s = 10}, 10, false},
                    TaiRow{"CountedUpFromNothing", {.tai_s = 9}, 0, false},
                    TaiRow{"Largest", {.tai_s = 1000}, 1000, false},
                    TaiRow{"Absurd", {.tai_s = 1001}, 0, false},
                    TaiRow{"AdjtimexFails", {.result = -EPERM}, 0, false},
                    TaiRow{"InsertionPending", {.result = TIME_INS}, 37, true},
                    TaiRow{"DeletionPending", {.result = TIME_DEL}, 37, true},
                    TaiRow{"InProgress", {.result = TIME_OOP}, 37, true},
                    TaiRow{"JustOver", {.result = TIME_WAIT}, 37, true},
                    TaiRow{
                        "Unsynchronised", {.result = TIME_ERROR, .status = STA_UNSYNC}, 37, false},
                    TaiRow{"PendingWhileUnsynchronised",
                           {.result = TIME_ERROR, .status = STA_UNSYNC | STA_DEL},
                           37,
                           true}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(KernelClockSourceReportTest, TheBoundIsUpToASecondOld) {
  EXPECT_EQ(KernelClockSource(Kernel{}.Call()).Ask(0).bound_age_ns, kSecond);
}

TEST(KernelClockSourceReportTest, FrequencyIsInPpmWithSixteenBitsOfFraction) {
  const auto correction = [](long freq) {
    return KernelClockSource(Kernel{.freq = freq}.Call()).Ask(0).frequency_correction;
  };
  EXPECT_DOUBLE_EQ(correction(10 * 65536), 10e-6);
  EXPECT_DOUBLE_EQ(correction(-500 * 65536), -500e-6);
  EXPECT_DOUBLE_EQ(correction(0), 0);
}

TEST(KernelClockSourceReportTest, UpdatesAreWatched) {
  Kernel kernel;
  KernelClockSource source([&kernel](timex* values) { return kernel.Fill(values); });
  const SourceReport first = source.Ask(0);
  ASSERT_TRUE(first.update_id.has_value());
  EXPECT_EQ(first.since_update_ns, 1'978'000'000) << "989 us at 500 us a second";
  EXPECT_EQ(first.update_interval_ns, 0);
  kernel.max_error_us += 500;
  EXPECT_EQ(source.Ask(kSecond).update_id, first.update_id);
  kernel.max_error_us = 800;
  const SourceReport updated = source.Ask(2 * kSecond);
  EXPECT_NE(updated.update_id, first.update_id);
  EXPECT_EQ(updated.since_update_ns, kSecond) << "at any time since the last look";
  kernel.max_error_us = 700;
  EXPECT_EQ(source.Ask(66 * kSecond).update_interval_ns, 64 * kSecond);
}

TEST(KernelClockSourceReportTest, AFailingCallForgetsNothing) {
  Kernel kernel;
  KernelClockSource source([&kernel](timex* values) { return kernel.Fill(values); });
  const SourceReport first = source.Ask(0);
  kernel.result = -EPERM;
  EXPECT_FALSE(source.Ask(kSecond).update_id.has_value());
  kernel.result = TIME_OK;
  kernel.max_error_us += 1000;
  EXPECT_EQ(source.Ask(2 * kSecond).update_id, first.update_id);
}

TEST(KernelClockSourceReportTest, ReadsThisMachine) {
  const SourceReport report = KernelClockSource().Ask(kSecond);
  EXPECT_EQ(report.word == Word::kSynchronised, report.problem.empty());
  EXPECT_EQ(report.word == Word::kSynchronised, report.error_bound_ns > 0);
  EXPECT_EQ(report.problem.find("adjtimex failed"), std::string::npos) << report.problem;
}

}  // namespace
}  // namespace tsc_handoff::clock
