// What the agent's metrics are told of one event.
//
// Threading: plain values.
#ifndef TSC_HANDOFF_SERVER_METRICS_EVENT_VALUES_H_
#define TSC_HANDOFF_SERVER_METRICS_EVENT_VALUES_H_

#include <cstdint>

namespace tsc_handoff::metrics {

// What a probe of another host's clock found.
struct ProbeValues {
  int64_t offset_ns = 0;
  int64_t offset_error_ns = 0;
  int64_t round_trip_ns = 0;
};

struct AppliedValues {
  uint64_t phase_spread_ticks = 0;
  uint64_t phase_error_ticks = 0;
  int64_t elapsed_ns = 0;
  int64_t error_bound_ns = -1;  // none
  int64_t commit_wait_ns = 0;
  double rate_error_ppm = 0;
  bool accepted_untrusted_clock = false;
};

// A phase of a handoff is one RPC on one side.
enum class Phase {
  kCapture,            // source: GetTscState
  kApply,              // destination: SetTscState
  kSourceCommit,       // CommitHandoff
  kDestinationCommit,  // CommitHandoff
  kSourceAbort,        // AbortHandoff
  kDestinationAbort,   // AbortHandoff
};

// What a capture or an apply spends its time with, besides the journal and the commit-wait.
enum class Step {
  kCaptureRead,  // one round trip to the VMM: every vCPU's TSC
  kApplyRead,    // what the VM has, to be written back should the agent die
  kApplyProbe,   // of the source's clock
  kApplyWrite,   // one round trip to the VMM: write and read back
};

// A value that was written and did not read back.
enum class ReadBack { kTscOffset, kTscAdjust, kKvmclock };

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_EVENT_VALUES_H_
