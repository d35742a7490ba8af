#include "server/time/ticks.h"

#include <random>

#include "gtest/gtest.h"
#include "server/time/time_testing.h"

namespace tsc_handoff::time {
namespace {

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

}  // namespace
}  // namespace tsc_handoff::time
