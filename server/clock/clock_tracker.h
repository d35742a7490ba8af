// ClockTracker: decides from what a clock source said, over time, whether the wall clock may be
// trusted and within which bound. A pure state machine: time comes in with each call.
//
//   Unknown       nothing is known: at the start, after a step, when the source is silent too long.
//   Synchronised  the source says so, and its last update is recent.
//   FreeRunning   the source has missed updates, is silent or says that it has lost its reference,
//                 but said something good shortly before: that bound goes on growing. Not trusted
//                 if it never said anything good.
//   Disrupted     CLOCK_REALTIME was stepped, and the source was not asked since; QualityAt sees
//                 it. The next report makes it Unknown, and Unknown it stays until the source has
//                 disciplined the clock anew.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CLOCK_TRACKER_H_
#define TSC_HANDOFF_SERVER_CLOCK_CLOCK_TRACKER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "server/clock/clock_quality.h"
#include "server/clock/clock_source.h"

namespace tsc_handoff::clock {

struct TrackerOptions {
  // By how much a clock's rate may be wrong between two statements of its source; 1 to 1000.
  uint32_t drift_ppm = 50;
  // Updates that the discipline may miss, by its own usual interval, before it is no longer
  // trusted; 1 to 1000. An interval below a second counts as one second, one that is not known as a
  // minute.
  uint32_t max_missed_updates = 8;
  // How long the source may say nothing good before the clock is no longer trusted. A source whose
  // updates cannot be seen is believed again this long after a step.
  int64_t max_silence_ns = 10'000'000'000;
  // The TSC's frequency, and by how much it may be off; see ClockSnapshot.
  uint32_t host_tsc_khz = 0;
  uint32_t tsc_rate_ppm = 50;
};

class ClockTracker {
 public:
  explicit ClockTracker(const TrackerOptions& options);

  // Takes in a report. `asked` was read just before the source was asked, `answered` just after; a
  // step between the two makes the report worthless. The source may have stated its bound at any
  // moment between them, so how far the clock was slewed meanwhile is added to the bound. A slew
  // that turned back within that time shows less than it moved, or not at all, and stays uncovered.
  void Take(const SourceReport& report, const ClockInstant& asked, const ClockInstant& answered);

  // What is known since the last report.
  const ClockSnapshot& snapshot() const { return snapshot_; }

 private:
  struct Step {
    int64_t monotonic_ns = 0;  // when it was noticed
    // The discipline's latest update then, or the first one heard of afterwards. One that it made
    // between the step and its notice is thus not believed; the next one is.
    std::optional<int64_t> update_id;
  };

  void NoteStep(const SourceReport& report, const ClockInstant& asked,
                const ClockInstant& answered);
  // An instant with the wall clock as it follows from the anchor. REQUIRES: an anchor.
  ClockInstant AnchoredAt(const ClockInstant& instant) const;
  // How long the report's word holds from now, by the updates that may be missed; at most
  // max_silence_ns, and at most 0 when too many were missed.
  int64_t HoldsForNs(const SourceReport& report) const;
  // Why the report does not make the clock trusted; empty when it does.
  std::string Problem(const SourceReport& report, int64_t now_ns) const;
  void Publish(const SourceReport& report, const ClockInstant& asked, const ClockInstant& answered);
  void Distrust(const SourceReport& report, const std::string& problem,
                const ClockInstant& answered);

  const TrackerOptions options_;
  ClockSnapshot snapshot_;
  // What both clocks read since the start or the last step. Their difference does not change but by
  // a step, so any later reading is compared with this one: many small steps, each hidden by the
  // width of the readings, do not add up.
  std::optional<ClockInstant> anchor_;
  int32_t anchor_tai_offset_s_ = 0;
  std::optional<Step> step_;                // not overcome yet
  std::optional<ClockSnapshot> last_good_;  // that may still be used
  std::optional<int64_t> last_good_at_ns_;  // CLOCK_MONOTONIC of the last good word ever
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CLOCK_TRACKER_H_
