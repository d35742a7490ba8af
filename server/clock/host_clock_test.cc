#include "server/clock/host_clock.h"

#include <ctime>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

TEST(LinuxHostClockTest, TscGoesOn) {
  LinuxHostClock clock;
  uint64_t last_ticks = clock.ReadTsc();
  for (int i = 0; i < 1000; ++i) {
    const uint64_t now_ticks = clock.ReadTsc();
    ASSERT_GE(now_ticks, last_ticks);
    last_ticks = now_ticks;
  }
  EXPECT_GT(last_ticks, 0u);
}

TEST(LinuxHostClockTest, RealtimeIsTheSystemsWallClock) {
  const time_t before_s = ::time(nullptr) - 1;  // time() may lag by a timer tick
  const int64_t read_ns = LinuxHostClock().ReadRealtimeNs();
  const time_t after_s = ::time(nullptr) + 1;
  EXPECT_GE(read_ns, int64_t{before_s} * 1'000'000'000);
  EXPECT_LE(read_ns, int64_t{after_s} * 1'000'000'000);
}

}  // namespace
}  // namespace tsc_handoff::clock
