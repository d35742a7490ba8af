// HandoffRun: a whole handoff as a state machine: which call to make next, and what its answer
// means. Pure: no I/O, no clock, no threads; client::Handoff drives it over two AgentClients, and
// the protocol's simulation over a network that loses, repeats and delays.
//
// It can be dropped at any point: another run with the same id and goal kResume finishes or undoes
// it from what the two agents say, with goal kAbort undoes it if that is still possible. The source
// decides: before it is RELEASED a handoff can be aborted, afterwards it goes forward only.
//
// A call whose answer may have been lost is repeated as it was, with a delay before it; when the
// attempts are used up, the run ends kPending and changes nothing more.
//
//     HandoffRun run(options);
//     while (const AgentCall* call = run.next()) run.Answer(send(*call));
//     use(run.result());
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_LIB_HANDOFF_RUN_H_
#define TSC_HANDOFF_CLIENT_LIB_HANDOFF_RUN_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/lib/agent_call.h"
#include "client/lib/state_view.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::client {

enum class HandoffGoal {
  kFinish,  // a new handoff, from its check to its end
  kResume,  // one that was begun: finish it, or undo it if its source has given it up
  kAbort,   // one that was begun: undo it, unless its source has released the VM
};

// Where a call goes.
enum class At { kSource, kDestination };

// What a run does, in the order of a new handoff.
enum class HandoffStep {
  kCheck,              // GetHostInfo and GetVm on both: finds a wrong address before it matters
  kAsk,                // GetHandoff on both: what became of what was begun
  kCapture,            // GetTscState on the source
  kApply,              // SetTscState on the destination
  kCommitSource,       // the point of no return
  kCommitDestination,  // lets the VM run
  kAbortSource,
  kAbortDestination,
};

struct AgentCall {
  HandoffStep step = HandoffStep::kCheck;
  At at = At::kSource;
  AgentRequest request;
  absl::Duration delay;  // to wait before it is sent
};

struct HandoffRunOptions {
  HandoffGoal goal = HandoffGoal::kFinish;
  // REQUIRED. 1 to 128 characters of [A-Za-z0-9._:-], unique for ever.
  std::string handoff_id;
  // REQUIRED with kFinish.
  std::string source_vm_id;
  // How it is applied. vm_id is REQUIRED with kFinish; `state` is ignored. The others say so in the
  // handoff's ticket.
  tschandoff::v1::SetTscStateRequest apply;
  // Where apply.source_agent is empty and the mode is ELAPSED, fill it with the source's
  // HostInfo.peer_address, unless both agents are on one host.
  bool probe = true;
  // Attempts at one call, and the delay before the second; it doubles, up to max_delay.
  int max_attempts = 12;
  // The same for a call that only looks; few, so that a wrong address is told soon.
  int max_looks = 3;
  absl::Duration first_delay = absl::Milliseconds(50);
  absl::Duration max_delay = absl::Seconds(1);
  // A fraction in [0, 1) for each delay, so that orchestrators that failed together do not return
  // together. Empty: no jitter.
  std::function<double()> random = nullptr;
};

// How a run ended.
enum class HandoffEnd {
  kNothingDone,  // no agent knows anything of the handoff
  kUndone,       // aborted on both; the VM may run on the source
  kMoved,        // the VM may run on the destination, and never again on the source
  kPending,      // not decided, or not told everywhere; resume or abort it
  kUndecidable,  // the destination knows it and the source does not: nothing may be guessed
};

struct HandoffResult {
  HandoffEnd end = HandoffEnd::kPending;
  // OK when the goal was reached; otherwise what stood in its way. With kUndone after a refused
  // apply: that refusal.
  absl::Status status;
  // Whose answer did not come, where that ended the run.
  std::optional<At> silent;
  // Whom the destination's agent was asked to probe; empty for nobody.
  std::string source_agent;
  // What the agents said last; absent where they did not.
  std::optional<tschandoff::v1::GetTscStateResponse> capture;
  std::optional<tschandoff::v1::SetTscStateResponse> apply;
  std::optional<tschandoff::v1::Handoff> source;
  std::optional<tschandoff::v1::Handoff> destination;
};

class HandoffRun {
 public:
  explicit HandoffRun(HandoffRunOptions options);

  // The call to make; the same until it is answered. Null when the run has ended.
  const AgentCall* next() const { return call_.has_value() ? &*call_ : nullptr; }
  // What came of it. REQUIRES: next() is not null.
  void Answer(absl::StatusOr<AgentAnswer> answer);
  // REQUIRES: next() is null.
  const HandoffResult& result() const { return result_; }

 private:
  // What is to be asked, in finer steps than a listener is told.
  enum class Ask {
    kSourceHost,
    kDestinationHost,
    kSourceVm,
    kDestinationVm,
    kSourceHandoff,
    kDestinationHandoff,
    kCapture,
    kApply,
    kCommitSource,
    kCommitDestination,
    kAbortSource,
    kAbortDestination,
  };

  void Go(Ask ask);
  void Send(absl::Duration delay);
  AgentRequest Request() const;
  void End(HandoffEnd end, absl::Status status);
  // From what both agents said, by the goal.
  void Decide();
  void Forward();
  void Failed(const absl::Status& status);
  // Undoes a handoff whose state or apply is wrong, if it still can be.
  void Refuse(const absl::Status& why);
  void ApplyFailed(const absl::Status& status);
  // Whether a VM that its agent does not know may only be between two connections.
  bool MayReturn(const absl::Status& status) const;
  bool released() const;
  // Starts over with what the agents say; a limited number of times.
  void AskAgain(const absl::Status& why);

  void Take(const tschandoff::v1::GetHostInfoResponse& answer);
  void Take(const tschandoff::v1::GetVmResponse& answer);
  void Take(const tschandoff::v1::GetTscStateResponse& answer);
  void Take(const tschandoff::v1::SetTscStateResponse& answer);
  void Take(const tschandoff::v1::CommitHandoffResponse& answer);
  void Take(const tschandoff::v1::AbortHandoffResponse& answer);
  void Take(const tschandoff::v1::GetHandoffResponse& answer);

  const HandoffRunOptions options_;
  Ask ask_ = Ask::kSourceHost;
  int attempts_ = 0;
  int asked_again_ = 0;
  std::optional<AgentCall> call_;
  std::optional<tschandoff::v1::HostInfo> source_host_;
  std::string destination_agent_id_;
  std::optional<StateView> captured_;
  // Why a new handoff is being undone.
  absl::Status refusal_;
  HandoffResult result_;
};

// Whom the destination's agent is to probe: apply.source_agent, or where that is empty, `probe` is
// on and the mode is ELAPSED, what the source says of itself, unless both are one host.
std::string SourceAgentFor(const tschandoff::v1::SetTscStateRequest& apply, bool probe,
                           const tschandoff::v1::HostInfo& source,
                           const tschandoff::v1::HostInfo& destination);

// "check", "capture", "commit source" and so on.
const char* NameOf(HandoffStep step);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_HANDOFF_RUN_H_
