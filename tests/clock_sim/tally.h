// Tally: how often each kind of thing happened, to show that the simulation tests what it is for.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_TALLY_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_TALLY_H_

#include <cstdint>
#include <map>
#include <string>

#include "tests/clock_sim/handoff_run.h"
#include "tests/clock_sim/scenario.h"

namespace tsc_handoff::clock_sim {

class Tally {
 public:
  void Add(const Scenario& scenario, const Outcome& outcome);

  // 0 for what never happened.
  int64_t operator[](const std::string& what) const;
  // A line for each kind.
  std::string Text() const;

 private:
  void AddPlan(const Scenario& scenario, const Outcome& outcome);
  void AddRefusal(const Outcome& outcome);
  void AddWorld(const Scenario& scenario, const Outcome& outcome);

  std::map<std::string, int64_t> counts_;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_TALLY_H_
