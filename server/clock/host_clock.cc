#include "server/clock/host_clock.h"

#include <x86intrin.h>

#include <cerrno>
#include <ctime>

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

// Cannot fail for the clocks used here; if it did, 0 is no time and is refused as such.
int64_t ReadNs(clockid_t id) {
  timespec now = {};
  clock_gettime(id, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

}  // namespace

uint64_t LinuxHostClock::ReadTsc() {
  // RDTSCP waits for earlier instructions, the LFENCE keeps later ones from starting before it.
  unsigned int cpu;
  const uint64_t tsc_ticks = __rdtscp(&cpu);
  _mm_lfence();
  return tsc_ticks;
}

int64_t LinuxHostClock::ReadRealtimeNs() { return ReadNs(CLOCK_REALTIME); }

int64_t LinuxHostClock::ReadMonotonicNs() { return ReadNs(CLOCK_MONOTONIC); }

void LinuxHostClock::SleepNs(int64_t ns) {
  if (ns <= 0) return;
  const int64_t until_ns = ReadMonotonicNs() + ns;
  const timespec until = {until_ns / kNsPerSecond, until_ns % kNsPerSecond};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

}  // namespace tsc_handoff::clock
