// The equations of a handoff: from what KVM says on the source to a portable state, and from the
// state to what is written on the destination. One reference (host TSC H, wall clock W, error E) on
// each side serves all vCPUs, so that
//
//     capture:  guest_i        = scale_src(H_src) + offset_i
//     apply:    elapsed_ns     = W_dst - W_src
//               elapsed_ticks  = elapsed_ns * guest_khz / 10^6          one value for all vCPUs
//               offset'_i      = guest_i + elapsed_ticks - scale_dst(H_dst)
//               kvmclock'      = kvmclock + elapsed_ns                  at H_dst
//
// and offset'_i - offset'_j = guest_i - guest_j whatever the clocks do. Worked example: 2,600,000
// kHz, unscaled, guest_0 = 1000 at W_src = 0; at W_dst = 2 ms, H_dst = 700: elapsed_ticks =
// 5,200,000, offset'_0 = 5,200,300.
//
// Pure: no I/O, no clock, no logging. Ticks wrap modulo 2^64; ns products go through 128 bits.
#ifndef TSC_HANDOFF_SERVER_TIME_HANDOFF_MATH_H_
#define TSC_HANDOFF_SERVER_TIME_HANDOFF_MATH_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/time/elapsed.h"
#include "server/time/tsc_scaling.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::time {

// One vCPU's offset as the kernel gave it, or as it is to be written.
struct VcpuOffset {
  uint32_t id = 0;
  uint64_t offset_ticks = 0;
};

struct ApplyPlan {
  Elapsed elapsed;
  std::vector<VcpuTsc> vcpus;             // guest values at the destination's reference
  std::vector<VcpuOffset> offsets;        // what to write, in the same order
  std::optional<KvmClockValue> kvmclock;  // at the destination's reference
};

// Guest TSC of a vCPU whose offset is `offset_ticks`, when the host TSC is `host_tsc_ticks`.
uint64_t GuestTsc(const TscScaling& scaling, uint64_t host_tsc_ticks, uint64_t offset_ticks);

// Largest difference between any two of the values: as a signed distance from the first, so right
// while all lie within half of the 2^64 circle. 0 for fewer than two.
uint64_t PhaseSpreadTicks(const std::vector<uint64_t>& guest_tsc_ticks);

// Largest |(after_i - after_j) - (before_i - before_j)| over all pairs. REQUIRES: equal lengths.
uint64_t PhaseErrorTicks(const std::vector<uint64_t>& before_ticks,
                         const std::vector<uint64_t>& after_ticks);

// Computes what to write, for the time that was reckoned to the same `destination`. `equalise`
// gives all vCPUs the value that is furthest ahead. Errors: kTimeWouldGoBack unless
// elapsed.earliest_ns and elapsed.elapsed_ns are 0 or more: no vCPU's TSC is ever planned below its
// captured one.
absl::StatusOr<ApplyPlan> PlanApply(const TscState& state, const TimeReference& destination,
                                    const TscScaling& destination_scaling, const Elapsed& elapsed,
                                    bool equalise);

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_HANDOFF_MATH_H_
