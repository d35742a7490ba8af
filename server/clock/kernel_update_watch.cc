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
// Bits that only a clock daemon sets. STA_UNSYNC is also set by the kernel, when maxerror reaches
// its limit.
constexpr int kDaemonsStatus = ~(STA_RONLY | STA_UNSYNC);

// The kernel's PLL works `offset` off towards 0, long after the daemon has died. Nothing but a
// daemon lets it grow or change sides.
bool OffsetRenewed(long before, long now) {
  return (now > 0 && now > before) || (now < 0 && now < before);
}

// What lies outside of this range makes no sense, and is left for the caller to refuse.
int64_t MaxErrorUs(const timex& values) {
  return std::clamp<int64_t>(values.maxerror, 0, kMaxErrorLimitUs);
}

bool OthersRenewed(const timex& before, const timex& now) {
  return before.freq != now.freq || before.tick != now.tick || before.esterror != now.esterror ||
         (before.status & kDaemonsStatus) != (now.status & kDaemonsStatus) ||
         OffsetRenewed(before.offset, now.offset);
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
  const bool renewed = first || MaxErrorRenewed(values, monotonic_ns);
  const bool updated = renewed || OthersRenewed(last_look_, values);
  last_look_ = values;
  if (renewed) {
    base_max_error_us_ = MaxErrorUs(values);
    base_ns_ = monotonic_ns;
  }
  if (first) {
    updated_ns_ = monotonic_ns - MaxErrorUs(values) * kNsPerGrownUs;
  } else if (updated) {
    updated_ns_ = monotonic_ns;
  }
  // Only who states the error anew vouches for the clock, after a step above all: chronyd also
  // changes the frequency at the end of a slew that somebody else's step has made pointless.
  if (renewed && !first) ++updates_.id;
  // A daemon sets the frequency more than once for each word on the error (chronyd ends a slew so);
  // such short distances would make it look late for ever after.
  if (renewed && !first) {
    if (renewed_ns_.has_value()) updates_.interval_ns = monotonic_ns - *renewed_ns_;
    renewed_ns_ = monotonic_ns;
  }
  updates_.since_ns = monotonic_ns - updated_ns_;
  return updates_;
}

}  // namespace tsc_handoff::clock
