#include "tests/clock_sim/scenario.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/clock_sim/draw_guest.h"
#include "tests/clock_sim/draw_host.h"
#include "tests/clock_sim/draw_lies.h"
#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr int64_t kHourPs = 3'600 * kPsPerSecond;

Truth DrawTruth(Random& random) {
  const int64_t kind = random.Between(0, 99);
  if (kind < 72) return Truth::kHonest;
  if (kind < 87) return Truth::kOffset;
  if (kind < 92) return Truth::kWander;
  if (kind < 96) return Truth::kSmear;
  return Truth::kMissedLeap;
}

void DrawPolicy(Random& random, Scenario& scenario) {
  handoff::Limits& limits = scenario.limits;
  limits.rate_uncertainty_ppm = random.Pick({50u, 200u});
  limits.max_error_ns =
      random.Pick({kNsPerMs, kNsPerMs, 10 * kNsPerMs, kNsPerSecond, 100 * kNsPerSecond});
  if (random.Percent(40)) limits.max_elapsed_ns = random.OctaveBetween(kNsPerMs, 16 * kNsPerSecond);
  if (random.Percent(30)) limits.max_commit_wait_ns = random.OctaveBetween(kNsPerUs, kNsPerSecond);
  limits.require_probe = random.Percent(5);
  scenario.policy.max_error_ns = limits.max_error_ns;
  scenario.policy.max_elapsed_ns = limits.max_elapsed_ns;
  scenario.policy.rate_uncertainty_ppm = limits.rate_uncertainty_ppm;
  scenario.policy.allow_untrusted_clock = !scenario.quiet && random.Percent(12);
  scenario.names_source = random.Percent(60);
  scenario.time_left_ns = 30 * kNsPerSecond;
  if (scenario.quiet) return;
  if (random.Percent(15)) scenario.time_left_ns = random.OctaveBetween(100'000, 10 * kNsPerSecond);
  if (random.Percent(1)) scenario.time_left_ns = -1;
}

int64_t DrawBlackoutPs(Random& random, int64_t max_elapsed_ns) {
  const int64_t kind = random.Between(0, 99);
  if (kind < 10) return 0;
  if (kind < 72) return random.OctaveBetween(100 * kPsPerNs, 2 * kPsPerSecond);
  if (kind < 90) return random.OctaveBetween(kPsPerMs, 16 * kPsPerSecond);
  if (kind < 91) return random.Between(16 * kPsPerSecond, 330 * kPsPerSecond);
  // About as long as is allowed.
  const int64_t longest_ns = std::min(max_elapsed_ns, 16 * kNsPerSecond);
  return longest_ns / 100 * random.Between(90, 110) * kPsPerNs;
}

void DrawTimes(Random& random, Scenario& scenario) {
  scenario.warm_up_ps = random.OctaveBetween(20 * kPsPerMs, 16 * kPsPerSecond);
  scenario.blackout_ps = DrawBlackoutPs(random, scenario.limits.max_elapsed_ns);
  scenario.apply_ps = random.OctaveBetween(kPsPerUs, 50 * kPsPerMs);
}

SimNetworkOptions DrawNetwork(Random& random, bool quiet) {
  SimNetworkOptions network;
  network.rounds = static_cast<int>(random.Pick({8, 8, 8, 1, 2}));
  network.request_ps = random.OctaveBetween(kPsPerUs, 4 * kPsPerMs);
  network.answer_ps =
      random.Percent(50) ? network.request_ps : random.OctaveBetween(kPsPerUs, 4 * kPsPerMs);
  if (random.Percent(10)) {
    network.rounds = 1;
    network.request_ps = random.OctaveBetween(kPsPerMs, 100 * kPsPerMs);
    network.answer_ps = random.OctaveBetween(kPsPerUs, 100 * kPsPerMs);
  }
  network.jitter_ps = random.OctaveBetween(kPsPerUs, 2 * kPsPerMs);
  network.work_ps = random.OctaveBetween(kPsPerUs, kPsPerMs);
  if (quiet) return network;
  if (random.Percent(10)) network.lost_per_mille = static_cast<int>(random.Between(1, 200));
  network.other_boot = random.Percent(2);
  network.other_khz = random.Percent(1);
  return network;
}

void DrawDisturbancesOf(Random& random, Scenario& scenario) {
  if (scenario.quiet) return;
  const bool leap = scenario.leap_second || scenario.truth == Truth::kSmear ||
                    scenario.truth == Truth::kMissedLeap;
  const DisturbanceLimits limits = {scenario.warm_up_ps, scenario.blackout_ps,
                                    leap ? 100 * kPsPerMs : kHourPs};
  scenario.disturbances = DrawDisturbances(limits, random);
}

std::string DescribeHost(const SimHostOptions& host) {
  const SimClocksOptions& clocks = host.clocks;
  const DisciplineOptions& discipline = host.discipline;
  const LeapSecondOptions& leap = host.leap_second;
  const SimMonitorOptions& monitor = host.monitor;
  constexpr const char* kSources[] = {"chrony", "kernel", "fixed", "auto"};
  return absl::StrCat(
      "{", kSources[static_cast<int>(host.source)], " tsc_khz=", clocks.tsc_khz,
      " tsc_start=", clocks.tsc_start_ticks, " tsc_error_ppb=", clocks.tsc_error_ppb,
      " read_ps=", clocks.read_ps, " stall_per_mille=", clocks.stall_per_mille,
      " longest_stall_ps=", clocks.longest_stall_ps,
      " error_at_start_ps=", clocks.error_at_start_ps, " scale=", host.can_scale, "/",
      host.frac_bits, " E_ps=", discipline.uncertainty_ps, " restless=", discipline.restless,
      " wander_ppb=", discipline.wander_ppb, "+", discipline.hidden_wander_ppb,
      " slew_ppb=", discipline.slew_ppb, " step_above_ps=", discipline.step_above_ps,
      " interval_ps=", discipline.interval_ps, " first_update_ps=", discipline.first_update_ps,
      " lost_ps=", discipline.lost_from_ps, "..", discipline.lost_until_ps,
      " says_so=", discipline.says_so, " lie_ps=", discipline.lie_ps,
      " smear_ps=", discipline.smear_ps, ":", discipline.smear_from_ps, "..",
      discipline.smear_until_ps, " fixed_bound_ns=", host.fixed_bound_ns, " tunes=", host.tunes,
      " silent_ps=", host.silent_from_ps, "..", host.silent_until_ps, " leap=", leap.inserted, "@",
      leap.at_ps, " cleared_after_ps=", leap.cleared_after_ps, " tai_known=", leap.tai_known,
      " drift_ppm=", monitor.tracker.drift_ppm, " max_silence_ns=", monitor.tracker.max_silence_ns,
      " poll_ps=", monitor.poll_interval_ps, " sticky_ns=", host.sticky_ns,
      " max_missed=", monitor.tracker.max_missed_updates,
      " longest_answer_ps=", monitor.longest_answer_ps, " late=", monitor.late_percent,
      "% latest_ps=", monitor.latest_ps, "}");
}

}  // namespace

Scenario DrawScenario(uint64_t seed) {
  Random random(seed);
  Scenario scenario;
  scenario.seed = seed;
  scenario.truth = DrawTruth(random);
  scenario.quiet = scenario.honest() && random.Percent(15);
  scenario.leap_second = scenario.honest() && !scenario.quiet && random.Percent(12);
  scenario.same_host = scenario.honest() && !scenario.leap_second && random.Percent(8);
  DrawPolicy(random, scenario);
  DrawTimes(random, scenario);
  const Surroundings surroundings = {scenario.limits.rate_uncertainty_ppm, scenario.quiet,
                                     scenario.warm_up_ps};
  scenario.source = DrawHost("the source's boot", surroundings, random);
  scenario.destination = DrawHost("the destination's boot", surroundings, random);
  scenario.network = DrawNetwork(random, scenario.quiet);
  DrawLeapSecond(random, scenario);
  DrawLies(random, scenario);
  DrawGuest(random, scenario);
  DrawDisturbancesOf(random, scenario);
  return scenario;
}

const char* TruthName(Truth truth) {
  switch (truth) {
    case Truth::kHonest:
      return "honest";
    case Truth::kOffset:
      return "offset";
    case Truth::kWander:
      return "wander";
    case Truth::kSmear:
      return "smear";
    case Truth::kMissedLeap:
      return "missed leap";
  }
  return "";
}

std::string Describe(const Scenario& scenario) {
  std::string line =
      absl::StrCat("TSC_SIM_SEED=", scenario.seed, " ", TruthName(scenario.truth),
                   scenario.quiet ? " quiet" : "", scenario.same_host ? " same_host" : "",
                   " rate_ppm=", scenario.limits.rate_uncertainty_ppm,
                   " max_error_ns=", scenario.limits.max_error_ns,
                   " max_elapsed_ns=", scenario.limits.max_elapsed_ns,
                   " max_commit_wait_ns=", scenario.limits.max_commit_wait_ns,
                   " require_probe=", scenario.limits.require_probe,
                   " allow_untrusted=", scenario.policy.allow_untrusted_clock,
                   " names_source=", scenario.names_source, " time_left_ns=", scenario.time_left_ns,
                   " guest_khz=", scenario.guest_khz, " warm_up_ps=", scenario.warm_up_ps,
                   " blackout_ps=", scenario.blackout_ps, " apply_ps=", scenario.apply_ps);
  absl::StrAppend(
      &line, " network={rounds=", scenario.network.rounds,
      " request_ps=", scenario.network.request_ps, " answer_ps=", scenario.network.answer_ps,
      " jitter_ps=", scenario.network.jitter_ps, " work_ps=", scenario.network.work_ps,
      " lost_per_mille=", scenario.network.lost_per_mille,
      " other_boot=", scenario.network.other_boot, " other_khz=", scenario.network.other_khz, "}");
  absl::StrAppend(&line, " source=", DescribeHost(scenario.source),
                  " destination=", DescribeHost(scenario.destination));
  for (const Disturbance& disturbance : scenario.disturbances)
    absl::StrAppend(&line, " ", Describe(disturbance));
  for (const uint64_t offset : scenario.offsets) absl::StrAppend(&line, " offset=", offset);
  return line;
}

}  // namespace tsc_handoff::clock_sim
