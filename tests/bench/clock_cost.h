// What one bracketed time reference costs on this machine's own clocks, how wide it is, and what it
// costs to know whether the clock may be trusted.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_BENCH_CLOCK_COST_H_
#define TSC_HANDOFF_TESTS_BENCH_CLOCK_COST_H_

#include "tests/bench/samples.h"

namespace tsc_handoff::bench {

struct ClockCost {
  Samples reference_width_ns;  // of the narrowest bracket, which a reference is made of
  Samples reference_cost_ns;   // of the whole reference, all its brackets and the clock's quality
  Samples bracket_width_ns;    // of any one bracket
  Samples trust_check_ns;      // of the clock's quality at an instant that has been read
};

ClockCost MeasureClockCost(int references);

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_CLOCK_COST_H_
