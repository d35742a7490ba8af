// Handoff: hands a paused VM's TSCs over from the source's agent to the destination's, so that at
// most one of the two hosts may run the VM at any time.
//
// The caller pauses the VM on the source before, has it created and paused on the destination,
// moves its memory and devices, and resumes it where the report says. What another orchestrator
// began is resumed or aborted by its id. Drives HandoffRun (handoff_run.h), which has the rules.
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
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/lib/agent_client.h"
#include "client/lib/handoff_run.h"
#include "client/lib/retry.h"
#include "client/lib/state_view.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::client {

struct HandoffProgress {
  HandoffStep step;
  enum class Event { kStarted, kDone, kFailed } event;
  // Since the step's start; zero for kStarted.
  absl::Duration duration;
};

struct HandoffRequest {
  HandoffGoal goal = HandoffGoal::kFinish;
  // 1 to 128 characters of [A-Za-z0-9._:-], unique for ever. Empty with kFinish: NewHandoffId().
  std::string handoff_id;
  // REQUIRED with kFinish.
  std::string source_vm_id;
  // The mode and the policies; with kFinish also the destination's vm_id. Its `state` is ignored:
  // the captured one takes its place. A `source_agent` given here is sent as it is, whatever
  // `probe` says. With `validate_only` nothing is begun: the state is captured without a handoff,
  // and the destination says whether it could apply it.
  tschandoff::v1::SetTscStateRequest apply;
  // Where apply.source_agent is empty and the mode is ELAPSED, fill it with the source's
  // HostInfo.peer_address. It stays empty where the source has none, and where both agents are on
  // one host (the same boot_id): that host's TSC tells the time exactly.
  bool probe = true;
  // Attempts at one call whose answer may have been lost, before the handoff is left pending; and
  // at one that only looks, of which few are made so that a wrong address is told soon.
  int max_attempts = 12;
  int max_looks = 3;
  // OPTIONAL. Called on this thread around each step; must be quick, for guest time passes
  // meanwhile.
  std::function<void(const HandoffProgress&)> progress;
  // OPTIONAL. Called once with kFinish, after both VMs were found and before the capture: here the
  // VM may still run, and is paused when this returns. An error ends it, with nothing done.
  std::function<absl::Status()> before_capture;
  // OPTIONAL. Asked before each call; true leaves the handoff as it is then.
  std::function<bool()> stop;
  TimeSource time = SystemTime();
};

struct HandoffReport {
  // OK only when the goal was reached, and what was applied is right as computed here. The error's
  // functions are in rpc_error.h.
  absl::Status status;
  HandoffEnd end = HandoffEnd::kNothingDone;
  // In one sentence, what state both VMs are in now, and who may run the VM.
  std::string situation;
  std::string handoff_id;

  // Whose answer did not come, where that ended it.
  std::optional<At> silent;
  // Whom the destination's agent was asked to probe; empty for nobody.
  std::string source_agent;
  // Absent where this run did not come to it. The view has no vCPUs when the state is of a format
  // newer than this library: it is handed on all the same, but what the destination's agent says is
  // not verified.
  tschandoff::v1::GetTscStateResponse capture;
  StateView captured_state;
  std::optional<tschandoff::v1::SetTscStateResponse> applied;
  // `applied`, or an empty one.
  tschandoff::v1::SetTscStateResponse apply;
  // What the agents said last of the handoff; absent where they said nothing.
  std::optional<tschandoff::v1::Handoff> source;
  std::optional<tschandoff::v1::Handoff> destination;
  // Per vCPU, in apply's order: change of its phase to the first vCPU, computed here from captured
  // and applied guest TSCs; not the agent's word. All 0 unless `equalise` was asked.
  std::vector<int64_t> phase_change_ticks;
  // Largest change between any two vCPUs, from the same figures.
  uint64_t phase_error_ticks = 0;

  // How long it took as seen here; 0 for what was not reached.
  absl::Duration check;
  absl::Duration get_rpc;
  absl::Duration set_rpc;
  absl::Duration commits;
  // From the capture's start to the end: what a handoff adds to the guest's blackout.
  absl::Duration handoff;
  // All of it, with connecting and checking.
  absl::Duration total;
};

HandoffReport Handoff(AgentClient& source, AgentClient& destination, const HandoffRequest& request);

// Fills phase_change_ticks and phase_error_ticks from what was captured and applied, and checks the
// agent's claim: see CheckPhase.
absl::Status VerifyApplied(bool equalise, HandoffReport* report);

// A random UUID (version 4).
std::string NewHandoffId();

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_HANDOFF_H_
