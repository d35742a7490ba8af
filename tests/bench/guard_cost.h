// What it costs to say who may make a call, and to write down what he did.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_BENCH_GUARD_COST_H_
#define TSC_HANDOFF_TESTS_BENCH_GUARD_COST_H_

#include "absl/status/statusor.h"
#include "tests/bench/samples.h"

namespace tsc_handoff::bench {

struct GuardCost {
  // Whose connection it is, whether he sends too much, whether he may: by the last of 20 bindings.
  Samples admission_ns;
  Samples audit_line_ns;  // a line of the audit's file
};

absl::StatusOr<GuardCost> MeasureGuardCost(int samples);

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_GUARD_COST_H_
