#include "tests/clock_sim/draw_lies.h"

#include <cstdint>
#include <vector>

#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

// One of the hosts, or both.
std::vector<SimHostOptions*> SomeHosts(Random& random, Scenario& scenario) {
  switch (random.Between(0, 2)) {
    case 0:
      return {&scenario.source};
    case 1:
      return {&scenario.destination};
    default:
      return {&scenario.source, &scenario.destination};
  }
}

// Somewhere between shortly before the capture and shortly after the apply.
int64_t DrawMidnight(Random& random, const Scenario& scenario) {
  return scenario.warm_up_ps +
         random.Between(-3 * kPsPerSecond, scenario.blackout_ps + kPsPerSecond / 2);
}

LeapSecondOptions DrawOneLeap(Random& random, int inserted, int64_t at_ps) {
  LeapSecondOptions leap;
  leap.inserted = inserted;
  leap.at_ps = at_ps;
  leap.cleared_after_ps = random.OctaveBetween(3 * kPsPerSecond / 2, 600 * kPsPerSecond);
  leap.tai_known = random.Percent(60);
  return leap;
}

void Smear(Random& random, Scenario& scenario) {
  const int inserted = random.Pick({1, 1, -1});
  const int64_t middle_ps = DrawMidnight(random, scenario);
  const int64_t length_ps = random.Pick({86'400, 2'000, 1'000}) * kPsPerSecond;
  scenario.source.leap_second = DrawOneLeap(random, inserted, middle_ps);
  scenario.destination.leap_second = DrawOneLeap(random, inserted, middle_ps);
  for (SimHostOptions* host : SomeHosts(random, scenario)) {
    host->leap_second.inserted = 0;
    host->discipline.smear_from_ps = middle_ps - random.Between(0, length_ps);
    host->discipline.smear_until_ps = host->discipline.smear_from_ps + length_ps;
    host->discipline.smear_ps = -inserted * kPsPerSecond;
  }
}

void MissLeap(Random& random, Scenario& scenario) {
  const int inserted = random.Pick({1, -1});
  const int64_t at_ps = DrawMidnight(random, scenario);
  scenario.source.leap_second = DrawOneLeap(random, inserted, at_ps);
  scenario.destination.leap_second = DrawOneLeap(random, inserted, at_ps);
  SimHostOptions& host = random.Percent(50) ? scenario.source : scenario.destination;
  host.leap_second.inserted = 0;
  host.discipline.smear_from_ps = host.discipline.smear_until_ps = at_ps;
  host.discipline.smear_ps = -inserted * kPsPerSecond;
}

}  // namespace

void DrawLies(Random& random, Scenario& scenario) {
  if (scenario.honest()) return;
  scenario.source.honest = scenario.destination.honest = false;
  switch (scenario.truth) {
    case Truth::kOffset:
      for (SimHostOptions* host : SomeHosts(random, scenario)) {
        host->discipline.lie_ps =
            random.EitherSign(random.OctaveBetween(kPsPerUs, 3'600 * kPsPerSecond));
      }
      break;
    case Truth::kWander:
      for (SimHostOptions* host : SomeHosts(random, scenario)) {
        const int64_t flag_ppb = host->monitor.tracker.drift_ppm * kPpbPerPpm;
        host->discipline.hidden_wander_ppb = random.OctaveBetween(flag_ppb, 20 * flag_ppb);
      }
      break;
    case Truth::kSmear:
      Smear(random, scenario);
      break;
    case Truth::kMissedLeap:
      MissLeap(random, scenario);
      break;
    case Truth::kHonest:
      break;
  }
}

void DrawLeapSecond(Random& random, Scenario& scenario) {
  if (!scenario.leap_second) return;
  const int inserted = random.Pick({1, 1, -1});
  const int64_t at_ps = DrawMidnight(random, scenario);
  for (SimHostOptions* host : {&scenario.source, &scenario.destination}) {
    host->leap_second = DrawOneLeap(random, inserted, at_ps);
    host->clocks.error_at_start_ps = 0;
  }
}

}  // namespace tsc_handoff::clock_sim
