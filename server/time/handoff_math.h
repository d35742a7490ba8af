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
#include "server/time/tsc_scaling.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::time {

// One vCPU's offset as the kernel gave it, or as it is to be written.
struct VcpuOffset {
  uint32_t id = 0;
  uint64_t offset_ticks = 0;
};

enum class ApplyMode {
  kElapsed,  // guest time moves on by the time that passed
  kExact,    // the guest finds the captured value
};

// What the caller and the agent's configuration allow.
struct ApplyPolicy {
  ApplyMode mode = ApplyMode::kElapsed;
  int64_t max_error_ns = 1'000'000;
  int64_t max_elapsed_ns = 300'000'000'000;
  bool allow_untrusted_clock = false;
  bool equalise = false;
  // How far the rate of a disciplined clock, and of the TSC as its frequency is known, may be off.
  uint32_t rate_uncertainty_ppm = 50;
};

// Parts of the bound on the error of guest time; see ErrorBound in tsc_agent.proto.
struct ErrorBound {
  int64_t source_read_ns = 0;
  int64_t destination_read_ns = 0;
  int64_t source_clock_ns = 0;
  int64_t destination_clock_ns = 0;
  int64_t rate_ns = 0;
  int64_t rounding_ns = 0;
  int64_t total_ns() const;
};

struct ApplyPlan {
  int64_t elapsed_ns = 0;  // 0 in EXACT mode
  uint64_t elapsed_ticks = 0;
  std::vector<VcpuTsc> vcpus;             // guest values at the destination's reference
  std::vector<VcpuOffset> offsets;        // what to write, in the same order
  std::optional<KvmClockValue> kvmclock;  // at the destination's reference
  std::optional<ErrorBound> bound;  // none in EXACT mode, nor when an untrusted clock was accepted
  bool used_tai = false;            // elapsed time is immune to leap seconds
  bool accepted_untrusted_clock = false;
};

// ns * khz / 10^6, rounded down. REQUIRES: ns >= 0. Wraps modulo 2^64 after 224 years at 2.6 GHz.
uint64_t NsToTicks(int64_t ns, uint32_t khz);

// ticks * 10^6 / khz, rounded towards 0. REQUIRES: khz > 0. Exact for differences below 2^63 ticks.
int64_t TicksToNs(int64_t ticks, uint32_t khz);

// |a - b| in parts per million of b, rounded up. REQUIRES: b > 0.
uint32_t DifferencePpm(uint32_t a, uint32_t b);

// Guest TSC of a vCPU whose offset is `offset_ticks`, when the host TSC is `host_tsc_ticks`.
uint64_t GuestTsc(const TscScaling& scaling, uint64_t host_tsc_ticks, uint64_t offset_ticks);

// Largest difference between any two of the values: as a signed distance from the first, so right
// while all lie within half of the 2^64 circle. 0 for fewer than two.
uint64_t PhaseSpreadTicks(const std::vector<uint64_t>& guest_tsc_ticks);

// Largest |(after_i - after_j) - (before_i - before_j)| over all pairs. REQUIRES: equal lengths.
uint64_t PhaseErrorTicks(const std::vector<uint64_t>& before_ticks,
                         const std::vector<uint64_t>& after_ticks);

// Computes what to write. Changes nothing.
// Errors: kStateWithoutTime, kClockUntrusted (metadata "side"), kTimeWouldGoBack,
// kElapsedOutOfRange, kClockBoundExceeded; in kExact mode none of these.
absl::StatusOr<ApplyPlan> PlanApply(const TscState& state, const TimeReference& destination,
                                    const TscScaling& destination_scaling,
                                    const ApplyPolicy& policy);

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_HANDOFF_MATH_H_
