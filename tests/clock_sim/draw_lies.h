// Makes hosts of a scenario claim what is not so, and draws leap seconds.
//
// Pure.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_LIES_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_LIES_H_

#include "tests/clock_sim/random.h"
#include "tests/clock_sim/scenario.h"

namespace tsc_handoff::clock_sim {

// As scenario.truth and scenario.leap_second say. REQUIRES: hosts, warm_up_ps and blackout_ps are
// drawn.
void DrawLies(Random& random, Scenario& scenario);
void DrawLeapSecond(Random& random, Scenario& scenario);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_LIES_H_
