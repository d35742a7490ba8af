#include "tests/clock_sim/chrony_source.h"

#include "server/clock/kernel_timex.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr uint16_t kUnsynchronised = 3;
constexpr double kSecondsPerNs = 1e-9;

}  // namespace

clock::ChronyTracking ChronySource::Tracking() const {
  clock::ChronyTracking tracking;
  tracking.reference_id = 1;
  tracking.stratum = 2;
  if (!discipline_.synchronised()) tracking.leap_status = kUnsynchronised;
  tracking.reference_ns = discipline_.updated_realtime_ns();
  const int64_t to_slew_ns = discipline_.ToSlewNs();
  tracking.correction_s = static_cast<double>(to_slew_ns) * kSecondsPerNs;
  tracking.root_dispersion_s =
      static_cast<double>(discipline_.ClaimNs() - to_slew_ns) * kSecondsPerNs;
  tracking.update_interval_s =
      static_cast<double>(discipline_.update_distance_ns()) * kSecondsPerNs;
  return tracking;
}

clock::SourceReport ChronySource::Ask(int64_t /*monotonic_ns*/) {
  clock::SourceReport report;
  if (world_.now_ps() >= silent_from_ps_ && world_.now_ps() < silent_until_ps_) {
    report.problem = "it does not answer";
  } else {
    report = clock::ReportFromTracking(Tracking(), clocks_.realtime_ns());
  }
  report.source = "chrony";
  if (report.word == clock::SourceReport::Word::kSynchronised)
    report.update_id = names_.NameOf(discipline_.updated_realtime_ns());
  timex values = {};
  const int state = kernel_.Adjtimex(values);
  report.tai_offset_s = clock::TaiOffsetS(values);
  report.leap_second |= clock::LeapSecond(state, values);
  return report;
}

}  // namespace tsc_handoff::clock_sim
