#include "server/clock/clock_source.h"

#include <cerrno>
#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kDayStartS = 1'700'006'400;  // 2023-11-15 00:00:00 UTC
constexpr int64_t kNoonS = kDayStartS + 43'200;

// What adjtimex returns and fills in. The defaults are those of a host under chrony.
struct Kernel {
  int result = TIME_OK;
  int status = STA_PLL;
  long maxerror_us = 989;
  int tai_s = 37;
  int64_t now_s = kNoonS;

  KernelClockSource::Adjtimex Call() const {
    return [*this](timex* values) {
      EXPECT_EQ(values->modes, 0u) << "the clock must only be read";
      if (result < 0) return result;
      values->status = status;
      values->maxerror = maxerror_us;
      values->esterror = 12;
      values->tai = tai_s;
      values->time.tv_sec = now_s;
      return result;
    };
  }
};

struct Row {
  const char* name;
  Kernel kernel;
  bool trusted;
  int64_t error_bound_ns;
  int32_t tai_offset_s;
  const char* reason;
};

class KernelClockSourceTest : public testing::TestWithParam<Row> {};

TEST_P(KernelClockSourceTest, Read) {
  const Row& row = GetParam();
  const ClockQuality quality = KernelClockSource(row.kernel.Call()).Read();
  EXPECT_EQ(quality.trusted, row.trusted) << quality.untrusted_reason;
  EXPECT_EQ(quality.error_bound_ns, row.error_bound_ns);
  EXPECT_EQ(quality.tai_offset_s, row.tai_offset_s);
  EXPECT_EQ(quality.source, "kernel");
  EXPECT_EQ(quality.untrusted_reason.empty(), row.trusted);
  EXPECT_NE(quality.untrusted_reason.find(row.reason), std::string::npos)
      << quality.untrusted_reason;
}

constexpr int64_t kBoundNs = 989'000;
constexpr int64_t kBeforeLeapS = kDayStartS + 86'400 - 5;

INSTANTIATE_TEST_SUITE_P(
    Table, KernelClockSourceTest,
    testing::Values(
        Row{"Synchronised", {}, true, kBoundNs, 37, ""},
        Row{"SmallestError", {.maxerror_us = 1}, true, 1000, 37, ""},
        Row{"LargestError", {.maxerror_us = 16'000'000}, true, 16'000'000'000, 37, ""},
        Row{"ErrorAboveSixteenSeconds",
            {.maxerror_us = 16'000'001},
            false,
            0,
            37,
            "16000001 us makes no sense"},
        Row{"HugeError",
            {.maxerror_us = std::numeric_limits<long>::max()},
            false,
            0,
            37,
            "makes no sense"},
        Row{"NegativeError", {.maxerror_us = -1}, false, 0, 37, "-1 us makes no sense"},
        Row{"MostNegativeError",
            {.maxerror_us = std::numeric_limits<long>::min()},
            false,
            0,
            37,
            "no sense"},
        Row{"ErrorOfZero", {.maxerror_us = 0}, false, 0, 37, "an error of 0"},
        Row{"UnsynchronisedByStatus",
            {.status = STA_PLL | STA_UNSYNC},
            false,
            0,
            37,
            "not synchronised"},
        Row{"UnsynchronisedByResult", {.result = TIME_ERROR}, false, 0, 37, "not synchronised"},
        Row{"NeverSynchronised",
            {.result = TIME_ERROR, .status = STA_UNSYNC, .maxerror_us = 16'000'000, .tai_s = 0},
            false,
            0,
            0,
            "not synchronised"},
        Row{"UnknownResult", {.result = 9}, false, 0, 37, "unknown clock state 9"},
        Row{"NotPermitted",
            {.result = -EPERM},
            false,
            0,
            0,
            "adjtimex failed: Operation not permitted"},
        Row{"Fault", {.result = -EFAULT}, false, 0, 0, "adjtimex failed: Bad address"},
        Row{"LeapInProgress", {.result = TIME_OOP}, false, 0, 37, "leap second is in progress"},
        Row{"LeapToday", {.result = TIME_INS}, true, kBoundNs, 37, ""},
        Row{"LeapIsNear",
            {.result = TIME_INS, .now_s = kBeforeLeapS},
            false,
            0,
            37,
            "comes within 5 s"},
        Row{"LeapIsNotYetNear",
            {.result = TIME_INS, .now_s = kBeforeLeapS - 1},
            true,
            kBoundNs,
            37,
            ""},
        Row{"DeletionIsNear",
            {.result = TIME_DEL, .now_s = kBeforeLeapS},
            false,
            0,
            37,
            "comes within 5 s"},
        Row{"LeapIsOver", {.result = TIME_WAIT, .now_s = kDayStartS}, true, kBoundNs, 37, ""},
        Row{"MidnightWithoutLeap", {.now_s = kBeforeLeapS}, true, kBoundNs, 37, ""},
        Row{"LeapTodayWithoutTai", {.result = TIME_INS, .tai_s = 0}, false, 0, 0, "due today"},
        Row{"DeletionTodayWithoutTai", {.result = TIME_DEL, .tai_s = 0}, false, 0, 0, "due today"},
        Row{"LeapIsOverWithoutTai",
            {.result = TIME_WAIT, .tai_s = 0},
            false,
            0,
            0,
            "has just passed"},
        Row{"TaiNotKnown", {.tai_s = 0}, true, kBoundNs, 0, ""},
        Row{"TaiNegative", {.tai_s = -37}, true, kBoundNs, 0, ""},
        Row{"TaiAtLimit", {.tai_s = 1000}, true, kBoundNs, 1000, ""},
        Row{"TaiAbsurd", {.tai_s = 1001}, true, kBoundNs, 0, ""}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(KernelClockSourceSystemTest, ReadsThisMachine) {
  const ClockQuality quality = KernelClockSource().Read();
  EXPECT_EQ(quality.trusted, quality.untrusted_reason.empty());
  EXPECT_EQ(quality.trusted, quality.error_bound_ns > 0);
  EXPECT_EQ(quality.untrusted_reason.find("adjtimex failed"), std::string::npos)
      << quality.untrusted_reason;
}

TEST(FixedClockSourceTest, VouchesForItsBoundWhateverTheKernelSays) {
  const Kernel unsynchronised = {.result = TIME_ERROR, .status = STA_UNSYNC};
  const ClockQuality quality = FixedClockSource(250'000, unsynchronised.Call()).Read();
  EXPECT_TRUE(quality.trusted);
  EXPECT_EQ(quality.error_bound_ns, 250'000);
  EXPECT_EQ(quality.tai_offset_s, 37) << "from the kernel";
  EXPECT_EQ(quality.source, "fixed");
  EXPECT_EQ(quality.untrusted_reason, "");
}

TEST(FixedClockSourceTest, DoesWithoutTheKernel) {
  const ClockQuality quality = FixedClockSource(1, Kernel{.result = -EPERM}.Call()).Read();
  EXPECT_TRUE(quality.trusted);
  EXPECT_EQ(quality.tai_offset_s, 0);
  EXPECT_TRUE(FixedClockSource(1).Read().trusted);
}

TEST(FixedClockSourceTest, ANegativeBoundIsNoBound) {
  const ClockQuality quality = FixedClockSource(-1, Kernel{}.Call()).Read();
  EXPECT_FALSE(quality.trusted);
  EXPECT_NE(quality.untrusted_reason, "");
}

}  // namespace
}  // namespace tsc_handoff::clock
