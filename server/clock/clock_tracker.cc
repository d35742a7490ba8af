#include "server/clock/clock_tracker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/time/ticks.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr int64_t kNsPerSecond = 1'000'000'000;
// A daemon that polls many times a second is not given up for a hiccup of the host.
constexpr int64_t kShortestIntervalNs = kNsPerSecond;
// The shortest at which a daemon polls a server for long, by default.
constexpr int64_t kUnknownIntervalNs = 64 * kNsPerSecond;
// One update may be late, and the next one on its way, without meaning anything.
constexpr int64_t kLateUpdates = 3;

std::string Human(int64_t ns) { return absl::FormatDuration(absl::Nanoseconds(ns)); }

int64_t UpdateIntervalNs(const SourceReport& report) {
  if (report.update_interval_ns == 0) return kUnknownIntervalNs;
  return std::max(report.update_interval_ns, kShortestIntervalNs);
}

// Updates missed; 0 where none can be seen.
int64_t MissedUpdates(const SourceReport& report) {
  if (!report.update_id.has_value()) return 0;
  return report.since_update_ns / UpdateIntervalNs(report);
}

// A leap second moves CLOCK_REALTIME by a second and CLOCK_TAI not at all.
ClockInstant OnTaiScale(ClockInstant instant, int32_t tai_offset_s) {
  instant.realtime_ns += tai_offset_s * kNsPerSecond;
  return instant;
}

}  // namespace

ClockTracker::ClockTracker(const TrackerOptions& options) : options_(options) {
  snapshot_.drift_ppm = options_.drift_ppm;
  snapshot_.host_tsc_khz = options_.host_tsc_khz;
  snapshot_.tsc_rate_ppm = options_.tsc_rate_ppm;
  snapshot_.quality.untrusted_reason = "the clock's source has not been asked yet; repeat shortly";
}

void ClockTracker::NoteStep(const SourceReport& report, const ClockInstant& asked,
                            const ClockInstant& answered) {
  if (!anchor_.has_value()) anchor_ = answered.width_ns < asked.width_ns ? answered : asked;
  const int32_t tai_s = report.tai_offset_s;
  if (tai_s != 0 && anchor_tai_offset_s_ != 0) {
    const ClockInstant moved = OnTaiScale(*anchor_, anchor_tai_offset_s_ - tai_s);
    // The same instant, as the clock reads after the leap second.
    if (LookForStep(*anchor_, answered).stepped() && !LookForStep(moved, answered).stepped())
      anchor_ = moved;
  }
  anchor_tai_offset_s_ = tai_s;
  if (!LookForStep(*anchor_, asked).stepped() && !LookForStep(*anchor_, answered).stepped() &&
      !LookForStep(asked, answered).stepped())
    return;
  anchor_ = answered;
  step_ = Step{answered.monotonic_ns, report.update_id};
  last_good_.reset();
}

ClockInstant ClockTracker::AnchoredAt(const ClockInstant& instant) const {
  ClockInstant anchored = instant;
  anchored.realtime_ns = instant.monotonic_ns + (anchor_->realtime_ns - anchor_->monotonic_ns);
  anchored.width_ns = std::max(anchor_->width_ns, instant.width_ns);
  return anchored;
}

int64_t ClockTracker::HoldsForNs(const SourceReport& report) const {
  if (!report.update_id.has_value()) return options_.max_silence_ns;
  const __int128 may_miss_ns =
      static_cast<__int128>(UpdateIntervalNs(report)) * options_.max_missed_updates;
  const __int128 left_ns = may_miss_ns - report.since_update_ns;
  return static_cast<int64_t>(std::min<__int128>(left_ns, options_.max_silence_ns));
}

std::string ClockTracker::Problem(const SourceReport& report, int64_t now_ns) const {
  if (report.word != Word::kSynchronised) {
    if (!report.problem.empty()) return report.problem;
    return absl::StrCat("nothing is known from ",
                        report.source.empty() ? "the clock's source" : report.source,
                        "; look whether the clock daemon runs");
  }
  if (report.error_bound_ns <= 0) {
    return absl::StrCat(report.source, " claims an error of ", report.error_bound_ns,
                        " ns, which no clock has; mend or replace the clock daemon");
  }
  if (HoldsForNs(report) <= 0) {
    return absl::StrCat(report.source, " has not disciplined the clock for ",
                        Human(report.since_update_ns), ", which is ", MissedUpdates(report),
                        " of its intervals; look at its sources (chronyc sources)");
  }
  if (!step_.has_value()) return "";
  const int64_t since_step_ns = now_ns - step_->monotonic_ns;
  const bool anew = report.update_id.has_value()
                        ? step_->update_id.has_value() && report.update_id != step_->update_id &&
                              report.since_update_ns < since_step_ns
                        : since_step_ns >= options_.max_silence_ns;
  if (anew) return "";
  return absl::StrCat("the clock was stepped ", Human(since_step_ns), " ago, and ", report.source,
                      " has not disciplined it since; wait for its next update");
}

void ClockTracker::Publish(const SourceReport& report, const ClockInstant& asked,
                           const ClockInstant& answered) {
  // The bound was stated after `asked`; to count its age from there is to count a little too much.
  snapshot_.taken = AnchoredAt(asked);
  snapshot_.trusted_until_ns = asked.monotonic_ns + HoldsForNs(report);
  ClockQuality quality;
  quality.status = MissedUpdates(report) >= kLateUpdates ? ClockStatus::kFreeRunning
                                                         : ClockStatus::kSynchronised;
  quality.trusted = true;
  quality.age_ns = report.bound_age_ns;
  // QualityAt sees how far the clock has moved since `asked`; since the bound was stated it may
  // have moved further, by as much as it had moved until then.
  quality.error_bound_ns = time::Saturate(static_cast<__int128>(report.error_bound_ns) +
                                          DriftNs(report.bound_age_ns, options_.drift_ppm) +
                                          MovedNs(snapshot_, answered));
  snapshot_.quality = std::move(quality);
}

void ClockTracker::Distrust(const SourceReport& report, const std::string& problem,
                            const ClockInstant& answered) {
  if (last_good_.has_value() && answered.monotonic_ns <= last_good_->trusted_until_ns &&
      HoldsForNs(report) > 0) {
    snapshot_ = *last_good_;
    snapshot_.taken = AnchoredAt(last_good_->taken);  // a leap second may have passed
    snapshot_.quality.status = ClockStatus::kFreeRunning;
    return;
  }
  last_good_.reset();
  ClockQuality quality;
  // A clock that follows nothing, by its own source's word, runs freely; of a silent one, of a
  // stepped one and of one that is overdue nothing is known.
  quality.status = report.word == Word::kUnsynchronised && !step_.has_value()
                       ? ClockStatus::kFreeRunning
                       : ClockStatus::kUnknown;
  quality.untrusted_reason = problem;
  if (last_good_at_ns_.has_value()) quality.age_ns = answered.monotonic_ns - *last_good_at_ns_;
  snapshot_.quality = std::move(quality);
  snapshot_.taken = last_good_at_ns_.has_value() ? answered : ClockInstant();
  snapshot_.trusted_until_ns = 0;
}

void ClockTracker::Take(const SourceReport& report, const ClockInstant& asked,
                        const ClockInstant& answered) {
  NoteStep(report, asked, answered);
  // The source spoke after `asked`: an update that was as long ago then is not younger than it
  // says.
  const std::string problem = Problem(report, asked.monotonic_ns);
  if (step_.has_value() && !step_->update_id.has_value()) step_->update_id = report.update_id;
  if (problem.empty()) {
    Publish(report, asked, answered);
    last_good_ = snapshot_;
    last_good_at_ns_ = asked.monotonic_ns;
    step_.reset();
  } else {
    Distrust(report, problem, answered);
  }
  ClockQuality& quality = snapshot_.quality;
  quality.tai_offset_s = report.tai_offset_s;
  quality.leap_second = report.leap_second;
  quality.frequency_correction = report.frequency_correction;
  quality.source = report.source;
}

}  // namespace tsc_handoff::clock
