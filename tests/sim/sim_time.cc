#include "tests/sim/sim_time.h"

#include <time.h>

namespace tsc_handoff::sim {
namespace {

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

SimTime::SimTime(Mode mode) : live_(mode == Mode::kLive), started_ns_(live_ ? MonotonicNs() : 0) {}

int64_t SimTime::NowNs() const {
  int64_t followed_ns = live_ ? MonotonicNs() - started_ns_ : 0;
  return followed_ns + advanced_ns_.load();
}

}  // namespace tsc_handoff::sim
