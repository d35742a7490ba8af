// Disturbance: one blow that the adversary deals to a host: a step of its clock, a stall, or both
// at once, so that the stall hides the step.
//
// Plain values.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_DISTURBANCE_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_DISTURBANCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/clock_sim/random.h"

namespace tsc_handoff::clock_sim {

struct Disturbance {
  enum class Phase { kBeforeCapture, kCapture, kBlackout, kReckoning };
  Phase phase = Phase::kBlackout;
  bool of_source = false;  // else of the destination
  // Before this reading of its clocks, counted from 1 at the phase's beginning; 0: at a time.
  uint64_t reading = 0;
  int64_t after_ps = 0;  // from the phase's beginning, when reading is 0
  int64_t stall_ps = 0;
  int64_t step_ps = 0;          // by somebody who is not the discipline
  int64_t undone_after_ps = 0;  // by stepping back; 0: never
  bool by_discipline = false;   // its discipline makes an update by a step
};

// How much of what there may be.
struct DisturbanceLimits {
  int64_t before_ps = 0;  // lengths of the phases that are counted in time
  int64_t blackout_ps = 0;
  int64_t longest_step_ps = 0;
};

std::vector<Disturbance> DrawDisturbances(const DisturbanceLimits& limits, Random& random);

std::string Describe(const Disturbance& disturbance);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_DISTURBANCE_H_
