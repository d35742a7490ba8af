// Draws the guest of a scenario: its frequency and offsets, and hosts' frequencies that go with it.
//
// Pure.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_GUEST_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_GUEST_H_

#include "tests/clock_sim/random.h"
#include "tests/clock_sim/scenario.h"

namespace tsc_handoff::clock_sim {

// REQUIRES: the hosts and warm_up_ps are drawn.
void DrawGuest(Random& random, Scenario& scenario);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_GUEST_H_
