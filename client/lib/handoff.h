// Handoff: takes a paused VM's TSC state from the source's agent and gives it to the destination's.
//
// The caller pauses the VM on the source before, moves its memory and devices, and decides where it
// runs afterwards. Handoff changes the destination's VM only; the source's stays as it is, so until
// the caller resumes the VM on the destination there is always a way back.
//
// In ELAPSED mode the destination's agent probes the source's clock where the source's agent says
// at which address others reach it, so that elapsed time does not rest on the two hosts' word
// alone.
//
// Threading: a call uses nothing but its arguments; several may share the AgentClients.
#ifndef TSC_HANDOFF_CLIENT_LIB_HANDOFF_H_
#define TSC_HANDOFF_CLIENT_LIB_HANDOFF_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/lib/agent_client.h"
#include "client/lib/retry.h"
#include "client/lib/state_view.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::client {

enum class HandoffStep {
  // GetVm on both: connects, and finds a wrong address or VM, before guest time matters. Also
  // GetHostInfo, where there is a source's agent to be found that can be probed.
  kCheck,
  // GetTscState on the source.
  kCapture,
  // SetTscState on the destination.
  kApply,
};

struct HandoffProgress {
  HandoffStep step;
  enum class Event { kStarted, kDone, kFailed } event;
  // Since the step's start; zero for kStarted.
  absl::Duration duration;
};

struct HandoffRequest {
  std::string source_vm_id;
  // The destination's vm_id, the mode and the policies. Its `state` is ignored: the captured one
  // takes its place. A `source_agent` given here is sent as it is, whatever `probe` says.
  tschandoff::v1::SetTscStateRequest apply;
  // Where apply.source_agent is empty and the mode is ELAPSED, fill it with the source's
  // HostInfo.peer_address. It stays empty where the source has none, and where both agents are on
  // one host (the same boot_id): that host's TSC tells the time exactly.
  bool probe = true;
  // OPTIONAL. Called on this thread around each step; must be quick, for guest time passes
  // meanwhile.
  std::function<void(const HandoffProgress&)> progress;
  TimeSource time = SystemTime();
};

// How far a handoff came.
enum class HandoffStage {
  // Nothing was captured, nothing was written.
  kNothingDone,
  // Captured; nothing was written, or everything written was undone.
  kCaptured,
  // Captured; the answer to the apply was lost: the destination's VM may have the new TSCs or its
  // old ones.
  kApplyUnknown,
  // Captured; the destination's VM has neither its old TSCs nor the new ones (ROLLBACK_FAILED).
  kDestinationBroken,
  // Captured and applied (or, with validate_only, found applicable).
  kApplied,
};

struct HandoffReport {
  // OK only when applied, and verified where the state can be read here. The error's functions are
  // in rpc_error.h.
  absl::Status status;
  HandoffStage stage = HandoffStage::kNothingDone;
  // In one sentence, what state both VMs are in now.
  std::string situation;

  // Whom the destination's agent was asked to probe; empty for nobody. Set from the check on.
  std::string source_agent;
  // Set from stage kCaptured on. The view has no vCPUs when the state is of a format newer than
  // this library: it is handed on all the same, but what the destination's agent says is not
  // verified.
  tschandoff::v1::GetTscStateResponse capture;
  StateView captured_state;
  // Set in stage kApplied.
  tschandoff::v1::SetTscStateResponse apply;
  // Per vCPU, in apply's order: change of its phase to the first vCPU, computed here from captured
  // and applied guest TSCs; not the agent's word. All 0 unless `equalise` was asked.
  std::vector<int64_t> phase_change_ticks;
  // Largest change between any two vCPUs, from the same figures.
  uint64_t phase_error_ticks = 0;

  // How long it took as seen here; 0 for what was not reached.
  absl::Duration check;
  absl::Duration get_rpc;
  absl::Duration set_rpc;
  // From the capture's start to the apply's end: what a handoff adds to the guest's blackout.
  absl::Duration handoff;
  // All of it, with connecting and checking.
  absl::Duration total;
};

HandoffReport Handoff(AgentClient& source, AgentClient& destination, const HandoffRequest& request);

// Fills phase_change_ticks and phase_error_ticks from what was captured and applied, and checks the
// agent's claim: INTERNAL when vCPUs are missing, a TSC went back, or (without `equalise`) a phase
// changed.
absl::Status VerifyApplied(bool equalise, HandoffReport* report);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_HANDOFF_H_
