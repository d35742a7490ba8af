// Draws one host of a scenario: an honest one; who makes it lie comes afterwards.
//
// Pure.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_HOST_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_HOST_H_

#include <cstdint>
#include <string>

#include "tests/clock_sim/random.h"
#include "tests/clock_sim/sim_host.h"

namespace tsc_handoff::clock_sim {

// What both hosts have in common.
struct Surroundings {
  uint32_t rate_uncertainty_ppm = 50;
  bool quiet = false;
  int64_t warm_up_ps = 0;  // until the capture
};

SimHostOptions DrawHost(const std::string& boot_id, const Surroundings& surroundings,
                        Random& random);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_DRAW_HOST_H_
