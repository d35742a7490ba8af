// What must hold in every handoff, whatever the adversary drew.
//
// Pure.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_CHECK_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_CHECK_H_

#include <string>
#include <vector>

#include "tests/clock_sim/handoff_run.h"
#include "tests/clock_sim/scenario.h"

namespace tsc_handoff::clock_sim {

// Sentences on what did not hold; empty when everything did.
std::vector<std::string> Violations(const Scenario& scenario, const Outcome& outcome);

// Whether the plan's bound covers its true error. REQUIRES: a plan with a bound.
bool BoundHolds(const Outcome& outcome);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_CHECK_H_
