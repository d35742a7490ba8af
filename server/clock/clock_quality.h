// What is known of the host's wall clock, and for how long that holds. Pure values and functions.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CLOCK_QUALITY_H_
#define TSC_HANDOFF_SERVER_CLOCK_CLOCK_QUALITY_H_

#include <cstdint>
#include <string>

namespace tsc_handoff::clock {

// See ClockInfo.Status in tsc_agent.proto; the numbers are the same.
enum class ClockStatus {
  kUnknown = 0,
  kSynchronised = 1,
  kFreeRunning = 2,
  kDisrupted = 3,
};

// CLOCK_REALTIME, CLOCK_MONOTONIC and the host's TSC at one instant: all were read within width_ns.
struct ClockInstant {
  int64_t realtime_ns = 0;
  int64_t monotonic_ns = 0;
  int64_t width_ns = 0;
  uint64_t host_tsc_ticks = 0;
};

// The clock at one instant. True time lies within CLOCK_REALTIME +- error_bound_ns when trusted.
struct ClockQuality {
  ClockStatus status = ClockStatus::kUnknown;
  bool trusted = false;
  int64_t error_bound_ns = 0;  // meaningful when trusted
  int64_t age_ns = 0;          // since the source stated the bound; 0 when it never did
  int32_t tai_offset_s = 0;    // CLOCK_TAI - CLOCK_REALTIME, 0 not known
  bool leap_second = false;    // see SourceReport
  double frequency_correction = 0;
  std::string source;
  std::string untrusted_reason;  // empty when trusted
};

// What was known when the source was last asked, in a form from which the quality at any later
// instant follows without asking anyone.
struct ClockSnapshot {
  ClockQuality quality;  // at `taken`; age_ns and error_bound_ns as of then
  ClockInstant taken;
  uint32_t drift_ppm = 0;  // by which the bound grows with age, at the least
  // The TSC's frequency and by how much it may be off. 0: not known, then a clock that is slewed
  // faster than drift_ppm is not noticed.
  uint32_t host_tsc_khz = 0;
  uint32_t tsc_rate_ppm = 0;
  // The quality may be used until CLOCK_MONOTONIC reads this; then the source has been silent too
  // long.
  int64_t trusted_until_ns = 0;
};

// How CLOCK_REALTIME moved against CLOCK_MONOTONIC between two instants: by shift_ns, as far as the
// instants' widths let it be seen.
struct StepLook {
  int64_t shift_ns = 0;
  int64_t uncertainty_ns = 0;
  bool stepped() const { return shift_ns > uncertainty_ns || shift_ns < -uncertainty_ns; }
};
StepLook LookForStep(const ClockInstant& before, const ClockInstant& after);

// By how much a clock whose rate is off by `ppm` drifts in `age_ns`, rounded up. REQUIRES: age_ns
// >= 0.
int64_t DriftNs(int64_t age_ns, uint32_t ppm);

// How far the clock may have been slewed between snapshot.taken and `later`: by how much
// CLOCK_MONOTONIC moved against the host's TSC, and what the two readings and the TSC's rate leave
// open. What was slewed there and back again in between does not show. 0 where the TSC's frequency
// is not known.
int64_t MovedNs(const ClockSnapshot& snapshot, const ClockInstant& later);

// The quality of the clock at `now`: the snapshot's, with the bound grown by drift over the time
// since. Pure and quick: no system call, no lock.
//   - kDisrupted when CLOCK_REALTIME was stepped since the snapshot: its difference to
//     CLOCK_MONOTONIC is another one, by more than the two instants' widths explain. What these
//     widths could hide is added to the bound.
//   - A clock daemon that changes its mind slews the clock to where its new source says, a second a
//     minute if need be, and its new bound is not known here yet. The TSC shows how far the clock
//     was moved since the snapshot: the bound grows by that, if it is more than drift.
//   - kUnknown after trusted_until_ns, or when `now` lies before the snapshot.
ClockQuality QualityAt(const ClockSnapshot& snapshot, const ClockInstant& now);

// How the status is written: "unknown", "synchronised", "free-running", "disrupted".
const char* StatusName(ClockStatus status);

// Who can give the latest snapshot. Threading: thread-safe.
class ClockView {
 public:
  virtual ~ClockView() = default;
  // Blocks on nothing but a short mutex.
  virtual ClockSnapshot Snapshot() = 0;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CLOCK_QUALITY_H_
