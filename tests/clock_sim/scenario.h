// Scenario: everything that is drawn for one handoff, from one seed.
//
// Pure.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_SCENARIO_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_SCENARIO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/handoff/limits.h"
#include "server/time/elapsed.h"
#include "tests/clock_sim/disturbance.h"
#include "tests/clock_sim/sim_host.h"
#include "tests/clock_sim/sim_network.h"

namespace tsc_handoff::clock_sim {

// What the two hosts' sources claim of their clocks.
enum class Truth {
  kHonest,      // what holds, but for the time from a step by somebody else to the next update
  kOffset,      // microseconds, of a clock that is off by up to an hour
  kWander,      // a rate error that is exceeded
  kSmear,       // nothing of the leap second that is being smeared
  kMissedLeap,  // nothing of the leap second that the host did not go through
};

struct Scenario {
  uint64_t seed = 0;
  Truth truth = Truth::kHonest;
  bool quiet = false;        // honest, and nothing disturbs: a refusal needs a good reason
  bool leap_second = false;  // there is one, and at least one host goes through it
  bool same_host = false;    // `source` only

  SimHostOptions source;
  SimHostOptions destination;
  SimNetworkOptions network;

  handoff::Limits limits;
  time::ApplyPolicy policy;
  bool names_source = false;  // so that it is probed
  int64_t time_left_ns = 0;

  uint32_t guest_khz = 0;
  std::vector<uint64_t> offsets;  // on the source, per vCPU

  int64_t warm_up_ps = 0;
  int64_t blackout_ps = 0;
  int64_t apply_ps = 0;  // from the plan to the write
  std::vector<Disturbance> disturbances;

  bool honest() const { return truth == Truth::kHonest; }
};

Scenario DrawScenario(uint64_t seed);

// In one line, beginning with the seed.
std::string Describe(const Scenario& scenario);
const char* TruthName(Truth truth);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_SCENARIO_H_
