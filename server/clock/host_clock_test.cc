#include "server/clock/host_clock.h"

#include <sys/time.h>

#include <csignal>
#include <ctime>
#include <limits>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;

int64_t SystemMonotonicNs() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * kSecond + now.tv_nsec;
}

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
  EXPECT_GE(read_ns, int64_t{before_s} * kSecond);
  EXPECT_LE(read_ns, int64_t{after_s} * kSecond);
}

TEST(LinuxHostClockTest, MonotonicIsTheSystemsAndGoesOn) {
  LinuxHostClock clock;
  const int64_t before_ns = SystemMonotonicNs();
  int64_t last_ns = clock.ReadMonotonicNs();
  EXPECT_GE(last_ns, before_ns);
  for (int i = 0; i < 1000; ++i) {
    const int64_t now_ns = clock.ReadMonotonicNs();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
  EXPECT_LE(last_ns, SystemMonotonicNs());
}

TEST(LinuxHostClockTest, SleepsForAtLeastTheTimeAskedFor) {
  LinuxHostClock clock;
  for (const int64_t ns : {int64_t{1}, int64_t{999}, 1 * kMs, 20 * kMs}) {
    const int64_t before_ns = SystemMonotonicNs();
    clock.SleepNs(ns);
    EXPECT_GE(SystemMonotonicNs() - before_ns, ns);
  }
}

TEST(LinuxHostClockTest, NothingToSleepReturnsAtOnce) {
  LinuxHostClock clock;
  const int64_t before_ns = SystemMonotonicNs();
  // Taken as a time to wait for, any of them would outlast the test.
  for (const int64_t ns :
       {int64_t{0}, int64_t{-1}, -3600 * kSecond, std::numeric_limits<int64_t>::min()})
    clock.SleepNs(ns);
  EXPECT_LT(SystemMonotonicNs() - before_ns, 30 * kSecond);
}

// A signal that is handled interrupts clock_nanosleep.
TEST(LinuxHostClockTest, ASignalDoesNotCutTheSleepShort) {
  struct sigaction count = {};
  static volatile sig_atomic_t signals = 0;
  count.sa_handler = [](int) { signals = signals + 1; };
  struct sigaction old = {};
  ASSERT_EQ(sigaction(SIGALRM, &count, &old), 0);
  const itimerval every_ms = {{0, 1'000}, {0, 1'000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every_ms, nullptr), 0);
  const int64_t before_ns = SystemMonotonicNs();
  LinuxHostClock().SleepNs(30 * kMs);
  const int64_t slept_ns = SystemMonotonicNs() - before_ns;
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  EXPECT_GE(slept_ns, 30 * kMs);
  EXPECT_GT(signals, 0) << "the sleep was not disturbed, so that this proves nothing";
}

}  // namespace
}  // namespace tsc_handoff::clock
