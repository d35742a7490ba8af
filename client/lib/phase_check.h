// Whether an apply did what its agent says: computed from the captured state and the guest TSCs in
// the answer, not from the agent's own verdict.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_LIB_PHASE_CHECK_H_
#define TSC_HANDOFF_CLIENT_LIB_PHASE_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "client/lib/state_view.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::client {

struct PhaseChange {
  // Per vCPU, in the answer's order: change of its phase to the first vCPU. All 0 unless `equalise`
  // was asked.
  std::vector<int64_t> per_vcpu_ticks;
  // Largest change between any two vCPUs.
  uint64_t largest_ticks = 0;
};

// INTERNAL when vCPUs are missing, a TSC went back, or (without `equalise`) a phase changed.
absl::StatusOr<PhaseChange> CheckPhase(const StateView& captured,
                                       const tschandoff::v1::SetTscStateResponse& applied,
                                       bool equalise);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_PHASE_CHECK_H_
