#include "server/clock/host_clock.h"

#include <x86intrin.h>

#include <ctime>

namespace tsc_handoff::clock {

uint64_t LinuxHostClock::ReadTsc() {
  // RDTSCP waits for earlier instructions, the LFENCE keeps later ones from starting before it.
  unsigned int cpu;
  const uint64_t tsc_ticks = __rdtscp(&cpu);
  _mm_lfence();
  return tsc_ticks;
}

int64_t LinuxHostClock::ReadRealtimeNs() {
  timespec now = {};
  // Cannot fail for CLOCK_REALTIME; if it did, 0 is no wall-clock time and is refused as such.
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace tsc_handoff::clock
