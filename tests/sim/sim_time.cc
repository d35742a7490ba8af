#include "tests/sim/sim_time.h"

#include <time.h>

#include <chrono>
#include <thread>

namespace tsc_handoff::sim {
namespace {

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

SimTime::SimTime(Mode mode)
    : live_(mode != Mode::kManual), started_ns_(mode == Mode::kLive ? MonotonicNs() : 0) {}

int64_t SimTime::NowNs() const {
  int64_t followed_ns = live_ ? MonotonicNs() - started_ns_ : 0;
  return followed_ns + advanced_ns_.load();
}

void SimTime::Sleep(int64_t ns) {
  if (ns <= 0) return;
  if (live_) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
  } else {
    Advance(ns);
  }
}

}  // namespace tsc_handoff::sim
