#include "tests/clock_sim/draw_host.h"

#include <algorithm>

#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr int64_t kForeverPs = 1'000'000 * kPsPerSecond;

SimClocksOptions DrawClocks(const Surroundings& surroundings, Random& random) {
  SimClocksOptions clocks;
  clocks.tsc_khz = static_cast<uint32_t>(random.Between(1'000'000, 5'000'000));
  clocks.tsc_start_ticks = random.Bits() >> random.Between(0, 30);
  clocks.tsc_error_ppb = random.WithinOftenAt(surroundings.rate_uncertainty_ppm * kPpbPerPpm);
  clocks.uptime_ns = random.OctaveBetween(100 * kNsPerSecond, 10'000'000 * kNsPerSecond);
  clocks.read_ps = random.OctaveBetween(4 * kPsPerNs, 64 * kPsPerNs);
  if (surroundings.quiet) return clocks;
  if (random.Percent(6)) clocks.read_ps = random.OctaveBetween(64 * kPsPerNs, 2 * kPsPerMs);
  if (random.Percent(15)) {
    clocks.stall_per_mille = static_cast<int>(random.Between(1, 50));
    clocks.longest_stall_ps = random.OctaveBetween(kPsPerUs, 10 * kPsPerMs);
  }
  return clocks;
}

// What a clock that runs slow drifts by in true time is more than in its own.
int64_t InTrueTime(int64_t rate_ppb) { return rate_ppb * kPpb / (kPpb + rate_ppb); }

// The clock's drift between two words of its source is within what the operator says.
DisciplineOptions DrawDiscipline(uint32_t drift_ppm, Random& random) {
  DisciplineOptions discipline;
  discipline.uncertainty_ps = random.OctaveBetween(50 * kPsPerNs, 5 * kPsPerMs);
  discipline.wander_ppb = InTrueTime(drift_ppm * kPpbPerPpm);
  if (random.Percent(50)) discipline.wander_ppb = random.OctaveBetween(100, discipline.wander_ppb);
  discipline.slew_ppb = random.OctaveBetween(kPpbPerPpm, 83'333 * kPpbPerPpm);
  discipline.interval_ps = random.OctaveBetween(kPsPerSecond / 8, 64 * kPsPerSecond);
  return discipline;
}

void DrawTroubles(int64_t warm_up_ps, Random& random, SimHostOptions& host) {
  DisciplineOptions& discipline = host.discipline;
  discipline.restless = random.Percent(15);
  if (random.Percent(25))
    discipline.step_above_ps = random.OctaveBetween(100 * kPsPerNs, kPsPerSecond);
  if (random.Percent(12)) {
    discipline.first_update_ps = random.OctaveBetween(kPsPerSecond / 8, 16 * kPsPerSecond);
    host.clocks.error_at_start_ps =
        random.EitherSign(random.OctaveBetween(kPsPerUs, 3'600 * kPsPerSecond));
  }
  if (random.Percent(20)) {
    discipline.lost_from_ps = random.Between(1, warm_up_ps);
    discipline.lost_until_ps =
        random.Percent(30)
            ? kForeverPs
            : discipline.lost_from_ps + random.OctaveBetween(kPsPerSecond / 2, 100 * kPsPerSecond);
    discipline.says_so = random.Percent(50);
  }
  if (random.Percent(20)) {
    host.silent_from_ps = random.Between(1, warm_up_ps);
    host.silent_until_ps =
        host.silent_from_ps + random.OctaveBetween(kPsPerSecond / 4, 64 * kPsPerSecond);
  }
}

// Somebody vouches for a bound, because whatever keeps the clock does so all the time.
void MakeFixed(Random& random, SimHostOptions& host) {
  const DisciplineOptions drawn = host.discipline;
  host.discipline = DisciplineOptions();
  host.discipline.uncertainty_ps = drawn.uncertainty_ps;
  host.discipline.wander_ppb = drawn.wander_ppb;
  // It overcomes the wander, else nobody could vouch for anything.
  host.discipline.slew_ppb = std::max(drawn.slew_ppb, 4 * drawn.wander_ppb);
  host.discipline.steps_back = true;
  host.discipline.interval_ps = random.OctaveBetween(kPsPerSecond / 8, kPsPerSecond);
  host.clocks.error_at_start_ps = 0;
  const int64_t wandered_ps =
      PpbOfPs(host.discipline.interval_ps * 5 / 4, host.discipline.wander_ppb);
  host.fixed_bound_ns = (host.discipline.uncertainty_ps + wandered_ps) / kPsPerNs + 2;
}

SimMonitorOptions DrawMonitor(const Surroundings& surroundings, Random& random) {
  SimMonitorOptions monitor;
  monitor.tracker.drift_ppm = random.Pick({50u, 200u});
  monitor.tracker.tsc_rate_ppm = surroundings.rate_uncertainty_ppm;
  monitor.poll_interval_ps = random.Pick({kPsPerSecond / 4, kPsPerSecond / 4, kPsPerSecond});
  monitor.longest_answer_ps = random.OctaveBetween(2 * kPsPerUs, 150 * kPsPerMs);
  if (surroundings.quiet) return monitor;
  if (random.Percent(30)) {
    monitor.tracker.max_silence_ns = random.OctaveBetween(2 * kNsPerSecond, 60 * kNsPerSecond);
    monitor.tracker.max_missed_updates = static_cast<uint32_t>(random.Between(1, 20));
  }
  monitor.late_percent = random.Pick({0, 20, 100});
  monitor.latest_ps = random.OctaveBetween(kPsPerMs, 3 * kPsPerSecond);
  return monitor;
}

}  // namespace

SimHostOptions DrawHost(const std::string& boot_id, const Surroundings& surroundings,
                        Random& random) {
  SimHostOptions host;
  host.boot_id = boot_id;
  host.clocks = DrawClocks(surroundings, random);
  host.monitor = DrawMonitor(surroundings, random);
  host.discipline = DrawDiscipline(host.monitor.tracker.drift_ppm, random);
  if (!surroundings.quiet) DrawTroubles(surroundings.warm_up_ps, random, host);
  host.source = random.Pick({SourceKind::kChrony, SourceKind::kChrony, SourceKind::kAuto,
                             SourceKind::kKernel, SourceKind::kFixed});
  // A short one, so that it happens within a short simulation that the kernel has to do.
  if (random.Percent(50)) host.sticky_ns = random.OctaveBetween(kNsPerSecond / 4, host.sticky_ns);
  if (host.source == SourceKind::kFixed) MakeFixed(random, host);
  host.tunes = random.Percent(70);
  // Else the agent would first have to see how often the kernel's values are renewed.
  if (surroundings.quiet && host.source == SourceKind::kKernel) {
    host.discipline.uncertainty_ps = std::min(host.discipline.uncertainty_ps, kPsPerMs);
    host.discipline.interval_ps = std::min(host.discipline.interval_ps, kPsPerSecond);
  }
  // It was kept as well before.
  if (host.discipline.first_update_ps == 0 && host.source != SourceKind::kFixed)
    host.clocks.error_at_start_ps = random.WithinOftenAt(host.discipline.uncertainty_ps);
  host.can_scale = random.Percent(70);
  host.frac_bits = random.Pick({32u, 48u});
  return host;
}

}  // namespace tsc_handoff::clock_sim
