#include "server/clock/fixed_clock_source.h"

#include <cerrno>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

Adjtimex Kernel(int result, int status, int tai_s) {
  return [=](timex* values) {
    EXPECT_EQ(values->modes, 0u) << "the clock must only be read";
    if (result < 0) return result;
    values->status = status;
    values->tai = tai_s;
    return result;
  };
}

TEST(FixedClockSourceTest, VouchesForItsBoundWhateverTheKernelSays) {
  const SourceReport report = FixedClockSource(250'000, Kernel(TIME_ERROR, STA_UNSYNC, 37)).Ask(0);
  EXPECT_EQ(report.word, Word::kSynchronised);
  EXPECT_EQ(report.error_bound_ns, 250'000);
  EXPECT_EQ(report.bound_age_ns, 0);
  EXPECT_EQ(report.source, "fixed");
  EXPECT_EQ(report.problem, "");
}

TEST(FixedClockSourceTest, HasNoUpdatesToSee) {
  EXPECT_FALSE(FixedClockSource(1, Kernel(TIME_OK, 0, 37)).Ask(0).update_id.has_value());
}

TEST(FixedClockSourceTest, TaiAndLeapSecondAreTheKernels) {
  const SourceReport today = FixedClockSource(1, Kernel(TIME_INS, STA_INS, 37)).Ask(0);
  EXPECT_EQ(today.tai_offset_s, 37);
  EXPECT_TRUE(today.leap_second);
  const SourceReport unsynchronised =
      FixedClockSource(1, Kernel(TIME_ERROR, STA_UNSYNC | STA_INS, 37)).Ask(0);
  EXPECT_TRUE(unsynchronised.leap_second) << "the kernel will insert it nevertheless";
  EXPECT_FALSE(FixedClockSource(1, Kernel(TIME_OK, 0, 37)).Ask(0).leap_second);
}

TEST(FixedClockSourceTest, DoesWithoutTheKernel) {
  const SourceReport report = FixedClockSource(1, Kernel(-EPERM, 0, 0)).Ask(0);
  EXPECT_EQ(report.word, Word::kSynchronised);
  EXPECT_EQ(report.tai_offset_s, 0);
  EXPECT_FALSE(report.leap_second);
  EXPECT_EQ(FixedClockSource(1).Ask(0).word, Word::kSynchronised);
}

TEST(FixedClockSourceTest, ABoundOfZeroOrLessIsNoBound) {
  for (const int64_t bound_ns : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    const SourceReport report = FixedClockSource(bound_ns, Kernel(TIME_OK, 0, 37)).Ask(0);
    EXPECT_EQ(report.word, Word::kNoAnswer) << bound_ns;
    EXPECT_NE(report.problem, "");
    EXPECT_EQ(report.error_bound_ns, 0);
  }
}

}  // namespace
}  // namespace tsc_handoff::clock
