#include "tests/clock_sim/kernel_ntp.h"

#include <algorithm>

#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr int64_t kGrowthUsPerSecond = 500;
constexpr int64_t kMaxErrorLimitUs = 16'000'000;

}  // namespace

int KernelNtp::Adjtimex(timex& values) const {
  values = {};
  values.tick = 10'000;
  const int64_t now_ns = clocks_.realtime_ns();
  values.time.tv_sec = now_ns / kNsPerSecond;
  values.time.tv_usec = now_ns % kNsPerSecond / kNsPerUs;
  const int state = leap_second_.FillTimex(values);
  const int64_t turns =
      clocks_.monotonic_ns() / kNsPerSecond - discipline_.updated_monotonic_ns() / kNsPerSecond;
  const int64_t stated_us = (discipline_.ClaimAtUpdateNs() + kNsPerUs - 1) / kNsPerUs;
  values.maxerror = std::min(stated_us + turns * kGrowthUsPerSecond, kMaxErrorLimitUs);
  values.esterror = 100;
  if (tunes_) values.freq = discipline_.updates() % 1000 * 2 + (discipline_.ToSlewNs() > 0 ? 1 : 0);
  if (!discipline_.synchronised() || values.maxerror >= kMaxErrorLimitUs) {
    values.status |= STA_UNSYNC;
    return TIME_ERROR;
  }
  return state;
}

}  // namespace tsc_handoff::clock_sim
