#include "server/clock/clock_quality.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/time/ticks.h"

namespace tsc_handoff::clock {
namespace {

using int128 = __int128;
using time::Saturate;

// Both clocks are whole ns of one timekeeper.
constexpr int64_t kRoundingNs = 2;

ClockQuality Untrusted(ClockQuality quality, ClockStatus status, std::string reason) {
  quality.status = status;
  quality.trusted = false;
  quality.error_bound_ns = 0;
  quality.untrusted_reason = std::move(reason);
  return quality;
}

}  // namespace

int64_t DriftNs(int64_t age_ns, uint32_t ppm) {
  return Saturate((int128{age_ns} * ppm + 999'999) / 1'000'000);
}

StepLook LookForStep(const ClockInstant& before, const ClockInstant& after) {
  StepLook look;
  look.shift_ns = Saturate((int128{after.realtime_ns} - after.monotonic_ns) -
                           (int128{before.realtime_ns} - before.monotonic_ns));
  look.uncertainty_ns = Saturate(int128{before.width_ns} + after.width_ns + kRoundingNs);
  return look;
}

int64_t MovedNs(const ClockSnapshot& snapshot, const ClockInstant& later) {
  if (snapshot.host_tsc_khz == 0) return 0;
  const auto ticks = static_cast<int64_t>(later.host_tsc_ticks - snapshot.taken.host_tsc_ticks);
  const int64_t by_tsc_ns = time::TicksToNs(ticks, snapshot.host_tsc_khz);
  const int128 moved = int128{later.monotonic_ns} - snapshot.taken.monotonic_ns - by_tsc_ns;
  return Saturate((moved < 0 ? -moved : moved) +
                  DriftNs(std::max<int64_t>(by_tsc_ns, 0), snapshot.tsc_rate_ppm) +
                  snapshot.taken.width_ns + later.width_ns + kRoundingNs);
}

ClockQuality QualityAt(const ClockSnapshot& snapshot, const ClockInstant& now) {
  ClockQuality quality = snapshot.quality;
  const int64_t passed_ns = now.monotonic_ns - snapshot.taken.monotonic_ns;
  if (snapshot.taken.monotonic_ns != 0) quality.age_ns += std::max<int64_t>(passed_ns, 0);
  if (!quality.trusted) return quality;
  if (passed_ns < 0) {
    return Untrusted(
        quality, ClockStatus::kUnknown,
        "CLOCK_MONOTONIC is behind what it was; the host's clocks cannot be relied on");
  }
  const StepLook look = LookForStep(snapshot.taken, now);
  if (look.stepped()) {
    return Untrusted(quality, ClockStatus::kDisrupted,
                     absl::StrCat("the clock was stepped by ",
                                  absl::FormatDuration(absl::Nanoseconds(look.shift_ns)),
                                  "; it is trusted again after its next update"));
  }
  if (now.monotonic_ns > snapshot.trusted_until_ns) {
    return Untrusted(quality, ClockStatus::kUnknown,
                     absl::StrCat("nothing good was heard from ", quality.source, " for ",
                                  absl::FormatDuration(absl::Nanoseconds(quality.age_ns)),
                                  "; look whether the clock daemon runs and reaches its sources"));
  }
  const int128 shift_ns = look.shift_ns < 0 ? -int128{look.shift_ns} : int128{look.shift_ns};
  const int64_t growth_ns =
      std::max(DriftNs(passed_ns, snapshot.drift_ppm), MovedNs(snapshot, now));
  quality.error_bound_ns =
      Saturate(int128{quality.error_bound_ns} + growth_ns + shift_ns + look.uncertainty_ns);
  return quality;
}

const char* StatusName(ClockStatus status) {
  switch (status) {
    case ClockStatus::kUnknown:
      return "unknown";
    case ClockStatus::kSynchronised:
      return "synchronised";
    case ClockStatus::kFreeRunning:
      return "free-running";
    case ClockStatus::kDisrupted:
      return "disrupted";
  }
  return "unknown";
}

}  // namespace tsc_handoff::clock
