#include "server/clock/kernel_update_watch.h"

#include <algorithm>
#include <utility>

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
// The kernel's MAXFREQ, by which maxerror grows at every turn of a second.
constexpr int64_t kGrowthUsPerSecond = 500;
constexpr int64_t kNsPerGrownUs = kNsPerSecond / kGrowthUsPerSecond;
// The kernel's NTP_PHASE_LIMIT, at which maxerror stops growing.
constexpr int64_t kMaxErrorLimitUs = 16'000'000;
// What lies outside of this range makes no sense, and is left for the caller to refuse.
int64_t MaxErrorUs(const timex& values) {
  return std::clamp<int64_t>(values.maxerror, 0, kMaxErrorLimitUs);
}

}  // namespace

bool KernelUpdateWatch::MaxErrorRenewed(const timex& values, int64_t monotonic_ns) const {
  const int64_t growth_us = MaxErrorUs(values) - base_max_error_us_;
  if (growth_us < 0) return true;
  if (MaxErrorUs(values) == kMaxErrorLimitUs) return false;
  if (growth_us % kGrowthUsPerSecond != 0) return true;
  const int64_t turns = growth_us / kGrowthUsPerSecond;
  const int64_t seconds = std::max<int64_t>(monotonic_ns - base_ns_, 0) / kNsPerSecond;
  // N seconds and a fraction see N or N + 1 turns; one more either way, since a look may come late.
  return turns < seconds - 1 || turns > seconds + 2;
}

KernelUpdates KernelUpdateWatch::Note(const timex& values, int64_t monotonic_ns) {
  const bool first = std::exchange(first_, false);
  const int64_t max_error_us = MaxErrorUs(values);
  if (first) {
    renewed_after_ns_ = monotonic_ns - max_error_us * kNsPerGrownUs;
    base_max_error_us_ = max_error_us;
    base_ns_ = monotonic_ns;
  } else if (MaxErrorRenewed(values, monotonic_ns)) {
    // That it fell shows at the next look; that it did not grow, only after a while, and then it
    // may have been renewed at any time since the last renewal that was seen.
    const bool at_once = max_error_us < MaxErrorUs(last_look_) ||
                         (max_error_us - MaxErrorUs(last_look_)) % kGrowthUsPerSecond != 0;
    renewed_after_ns_ = at_once ? last_look_ns_ : base_ns_;
    base_max_error_us_ = max_error_us;
    base_ns_ = monotonic_ns;
    ++updates_.id;
    if (renewed_ns_.has_value()) updates_.interval_ns = monotonic_ns - *renewed_ns_;
    renewed_ns_ = monotonic_ns;
  }
  last_look_ = values;
  last_look_ns_ = monotonic_ns;
  updates_.since_ns = monotonic_ns - renewed_after_ns_;
  return updates_;
}

}  // namespace tsc_handoff::clock
