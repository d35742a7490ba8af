// RunHandoff: one handoff in a world of its own, from capture to apply, and the truth about it.
//
// Threading: one thread; the same scenario gives the same outcome.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_HANDOFF_RUN_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_HANDOFF_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/handoff/timekeeper.h"
#include "server/time/clock_probe.h"
#include "server/time/handoff_math.h"
#include "server/time/tsc_state.h"
#include "tests/clock_sim/scenario.h"
#include "tests/clock_sim/sleep_log.h"

namespace tsc_handoff::clock_sim {

struct Outcome {
  absl::Status status;  // of the first step that was refused
  time::TscState state;
  handoff::Reckoning reckoning;         // meaningful when status is OK
  std::optional<time::ApplyPlan> plan;  // there when status is OK

  // The truth. At the instant of the plan's reference: the planned TSC minus the one that the guest
  // would have had on the source, in guest ticks.
  __int128 error_ticks = 0;
  // At the moment of the apply: the TSC of each vCPU minus the captured one.
  std::vector<int64_t> gained_ticks;
  // From the capture to the end of the reckoning.
  int64_t true_elapsed_ns = 0;

  std::optional<time::ClockProbe> probe;  // also when the handoff was then refused
  // By how much the truth lies outside of what the probe found about the peer's TSC; 0: within.
  int64_t probe_wrong_ns = 0;

  std::vector<SleepLog::Sleep> sleeps;
  int64_t reckoning_began_ns = 0;  // by CLOCK_MONOTONIC

  std::string broken_claim;                  // the simulation's own fault; see SimHost
  int64_t steps = 0;                         // of either clock
  int64_t distrusts = 0;                     // polls that ended the trust in a clock
  bool source_trusted_by_poll = false;       // by the latest poll before the capture
  bool destination_trusted_by_poll = false;  // by the latest poll at the end
  bool leap_between = false;  // a leap second came after the capture, and before the plan
  bool tsc_wrapped = false;   // of a host, in that time
  bool guest_wrapped = false;
};

Outcome RunHandoff(const Scenario& scenario);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_HANDOFF_RUN_H_
