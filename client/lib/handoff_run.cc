#include "client/lib/handoff_run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/phase_check.h"
#include "client/lib/rpc_error.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

// How often a run may find that somebody else has moved the handoff meanwhile.
constexpr int kMaxAskedAgain = 8;
// Attempts, a max_delay apart, at a call whose VM its agent does not know: after an agent's start
// the VMMs take up to 2 s to register again.
constexpr int kMaxReturns = 4;

// Whether the same call may succeed later, or its answer may have been lost.
bool IsTransient(const absl::Status& status) {
  if (IsOutcomeUnknown(status)) return true;
  if (IsFromAgent(status)) {
    switch (ReasonOf(status)) {
      case v1::VM_BUSY:
      case v1::AGENT_STOPPING:
      case v1::JOURNAL_UNAVAILABLE:
      case v1::LIMIT_EXCEEDED:
        return true;
      default:
        return false;
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kAborted:
      return true;
    default:
      return false;
  }
}

absl::Status NotAnswered(const char* what) {
  return absl::InternalError(absl::StrCat("an agent's answer has no ", what));
}

}  // namespace

HandoffRun::HandoffRun(HandoffRunOptions options) : options_(std::move(options)) {
  if (options_.goal == HandoffGoal::kFinish) {
    Go(Ask::kSourceHost);
  } else {
    Go(Ask::kSourceHandoff);
  }
}

void HandoffRun::Go(Ask ask) {
  ask_ = ask;
  attempts_ = 0;
  Send(absl::ZeroDuration());
}

void HandoffRun::Send(absl::Duration delay) {
  ++attempts_;
  AgentCall call;
  switch (ask_) {
    case Ask::kSourceHost:
    case Ask::kDestinationHost:
    case Ask::kSourceVm:
    case Ask::kDestinationVm:
      call.step = HandoffStep::kCheck;
      break;
    case Ask::kSourceHandoff:
    case Ask::kDestinationHandoff:
      call.step = HandoffStep::kAsk;
      break;
    case Ask::kCapture:
      call.step = HandoffStep::kCapture;
      break;
    case Ask::kApply:
      call.step = HandoffStep::kApply;
      break;
    case Ask::kCommitSource:
      call.step = HandoffStep::kCommitSource;
      break;
    case Ask::kCommitDestination:
      call.step = HandoffStep::kCommitDestination;
      break;
    case Ask::kAbortSource:
      call.step = HandoffStep::kAbortSource;
      break;
    case Ask::kAbortDestination:
      call.step = HandoffStep::kAbortDestination;
      break;
  }
  const bool at_source = ask_ == Ask::kSourceHost || ask_ == Ask::kSourceVm ||
                         ask_ == Ask::kSourceHandoff || ask_ == Ask::kCapture ||
                         ask_ == Ask::kCommitSource || ask_ == Ask::kAbortSource;
  call.at = at_source ? At::kSource : At::kDestination;
  call.request = Request();
  call.delay = delay;
  call_ = std::move(call);
}

AgentRequest HandoffRun::Request() const {
  switch (ask_) {
    case Ask::kSourceHost:
    case Ask::kDestinationHost:
      return v1::GetHostInfoRequest();
    case Ask::kSourceVm:
    case Ask::kDestinationVm: {
      v1::GetVmRequest request;
      request.set_vm_id(ask_ == Ask::kSourceVm ? options_.source_vm_id : options_.apply.vm_id());
      return request;
    }
    case Ask::kSourceHandoff:
    case Ask::kDestinationHandoff: {
      v1::GetHandoffRequest request;
      request.set_handoff_id(options_.handoff_id);
      return request;
    }
    case Ask::kCapture: {
      v1::GetTscStateRequest request;
      request.set_handoff_id(options_.handoff_id);
      if (result_.source.has_value()) {
        // As it was sent first, so that the stored answer comes again.
        request.set_vm_id(result_.source->vm_id());
        request.set_destination_agent_id(result_.source->ticket().destination_agent_id());
        request.set_destination_vm_id(result_.source->ticket().destination_vm_id());
      } else {
        request.set_vm_id(options_.source_vm_id);
        request.set_destination_agent_id(destination_agent_id_);
        request.set_destination_vm_id(options_.apply.vm_id());
      }
      return request;
    }
    case Ask::kApply: {
      v1::SetTscStateRequest request = options_.apply;
      *request.mutable_state() = result_.capture->state();
      if (result_.source.has_value())
        request.set_vm_id(result_.source->ticket().destination_vm_id());
      request.set_source_agent(result_.source_agent);
      return request;
    }
    case Ask::kCommitSource:
    case Ask::kCommitDestination: {
      v1::CommitHandoffRequest request;
      request.set_handoff_id(options_.handoff_id);
      request.set_side(ask_ == Ask::kCommitSource ? v1::Handoff::SIDE_SOURCE
                                                  : v1::Handoff::SIDE_DESTINATION);
      if (ask_ == Ask::kCommitDestination)
        request.set_release_proof(result_.source->release_proof());
      return request;
    }
    case Ask::kAbortSource:
    case Ask::kAbortDestination: {
      v1::AbortHandoffRequest request;
      request.set_handoff_id(options_.handoff_id);
      request.set_side(ask_ == Ask::kAbortSource ? v1::Handoff::SIDE_SOURCE
                                                 : v1::Handoff::SIDE_DESTINATION);
      if (ask_ == Ask::kAbortDestination) {
        request.set_abort_proof(result_.source->abort_proof());
        *request.mutable_ticket() = result_.source->ticket();
      }
      return request;
    }
  }
  return v1::GetHostInfoRequest();
}

void HandoffRun::End(HandoffEnd end, absl::Status status) {
  call_.reset();
  result_.end = end;
  result_.status = std::move(status);
}

bool HandoffRun::released() const {
  return result_.source.has_value() && result_.source->state() == v1::Handoff::STATE_RELEASED;
}

void HandoffRun::Answer(absl::StatusOr<AgentAnswer> answer) {
  if (!answer.ok()) {
    Failed(answer.status());
    return;
  }
  std::visit([this](const auto& response) { Take(response); }, *answer);
}

// ---- what agents say ----

void HandoffRun::Take(const v1::GetHostInfoResponse& answer) {
  const v1::HostInfo& host = answer.host();
  if (ask_ == Ask::kSourceHost) {
    source_host_ = host;
    Go(Ask::kDestinationHost);
    return;
  }
  destination_agent_id_ = host.agent_id();
  result_.source_agent = SourceAgentFor(options_.apply, options_.probe, *source_host_, host);
  // A resumed run has what it came for; a new one looks at the VMs, too.
  Go(options_.goal == HandoffGoal::kFinish ? Ask::kSourceVm : Ask::kApply);
}

void HandoffRun::Take(const v1::GetVmResponse& /*answer*/) {
  if (ask_ == Ask::kSourceVm) {
    Go(Ask::kDestinationVm);
  } else {
    Go(Ask::kCapture);
  }
}

void HandoffRun::Take(const v1::GetTscStateResponse& answer) {
  if (!answer.has_state()) return Refuse(NotAnswered("state"));
  result_.capture = answer;
  captured_.reset();
  absl::StatusOr<StateView> state = DecodeState(answer.state());
  if (state.ok()) {
    captured_ = *std::move(state);
  } else if (ReasonOf(state.status()) != v1::STATE_VERSION_UNSUPPORTED) {
    // One that is newer than this library is the agents' matter; a damaged one ends it here.
    return Refuse(Annotate(state.status(), "check what was captured"));
  }
  // Who may be probed is known from the check; a resumed run asks now.
  Go(source_host_.has_value() ? Ask::kApply : Ask::kSourceHost);
}

void HandoffRun::Take(const v1::SetTscStateResponse& answer) {
  result_.apply = answer;
  if (captured_.has_value()) {
    const absl::Status right = CheckPhase(*captured_, answer, options_.apply.equalise()).status();
    if (!right.ok()) return Refuse(right);
  }
  Forward();
}

void HandoffRun::Take(const v1::CommitHandoffResponse& answer) {
  if (!answer.has_handoff()) return End(HandoffEnd::kPending, NotAnswered("handoff"));
  if (ask_ == Ask::kCommitSource) {
    result_.source = answer.handoff();
    Go(Ask::kCommitDestination);
    return;
  }
  result_.destination = answer.handoff();
  End(HandoffEnd::kMoved, absl::OkStatus());
}

void HandoffRun::Take(const v1::AbortHandoffResponse& answer) {
  if (!answer.has_handoff()) return End(HandoffEnd::kPending, NotAnswered("handoff"));
  if (ask_ == Ask::kAbortSource) {
    result_.source = answer.handoff();
    Go(Ask::kAbortDestination);
    return;
  }
  result_.destination = answer.handoff();
  End(HandoffEnd::kUndone, refusal_);
}

void HandoffRun::Take(const v1::GetHandoffResponse& answer) {
  if (ask_ == Ask::kSourceHandoff) {
    result_.source.reset();
    if (answer.has_source()) result_.source = answer.source();
    Go(Ask::kDestinationHandoff);
    return;
  }
  result_.destination.reset();
  if (answer.has_destination()) result_.destination = answer.destination();
  Decide();
}

// ---- decisions ----

void HandoffRun::Decide() {
  if (!result_.source.has_value()) {
    if (!result_.destination.has_value()) {
      return End(HandoffEnd::kNothingDone,
                 ReasonError(absl::StatusCode::kNotFound, v1::HANDOFF_NOT_FOUND,
                             absl::StrCat("neither agent knows handoff ", options_.handoff_id),
                             "Correct the id or the addresses; there is nothing to undo."));
    }
    return End(
        HandoffEnd::kUndecidable,
        ReasonError(absl::StatusCode::kFailedPrecondition, v1::HANDOFF_UNDECIDED,
                    absl::StrCat("the destination knows handoff ", options_.handoff_id,
                                 ", and this source does not"),
                    "Look whether this is the agent that captured it; nothing was changed."));
  }
  switch (result_.source->state()) {
    case v1::Handoff::STATE_ABORTED:
      return Go(Ask::kAbortDestination);
    case v1::Handoff::STATE_RELEASED:
      if (options_.goal == HandoffGoal::kAbort) {
        return End(HandoffEnd::kPending,
                   ReasonError(absl::StatusCode::kFailedPrecondition, v1::HANDOFF_DECIDED,
                               absl::StrCat("the source has released the VM in handoff ",
                                            options_.handoff_id, ": it can only go forward"),
                               "Resume it."));
      }
      return Forward();
    default:
      if (options_.goal == HandoffGoal::kAbort || !refusal_.ok()) return Go(Ask::kAbortSource);
      return Forward();
  }
}

// Towards the destination, from a source that is CAPTURED or RELEASED.
void HandoffRun::Forward() {
  const auto state = result_.destination.has_value() ? result_.destination->state()
                                                     : v1::Handoff::STATE_UNSPECIFIED;
  if (state == v1::Handoff::STATE_ACTIVE) return End(HandoffEnd::kMoved, absl::OkStatus());
  if (result_.apply.has_value() || state == v1::Handoff::STATE_APPLIED)
    return Go(released() ? Ask::kCommitDestination : Ask::kCommitSource);
  Go(Ask::kCapture);
}

void HandoffRun::AskAgain(const absl::Status& why) {
  if (++asked_again_ > kMaxAskedAgain) return End(HandoffEnd::kPending, why);
  result_.apply.reset();
  Go(Ask::kSourceHandoff);
}

// ---- errors ----

void HandoffRun::Failed(const absl::Status& status) {
  const v1::ErrorReason reason = ReasonOf(status);
  if (IsTransient(status)) {
    const HandoffStep step = call_->step;
    const bool only_looks = step == HandoffStep::kCheck || step == HandoffStep::kAsk;
    if (attempts_ < (only_looks ? std::min(options_.max_attempts, options_.max_looks)
                                : options_.max_attempts)) {
      const int doublings = std::min(attempts_ - 1, 16);
      absl::Duration delay = std::min(options_.first_delay * (1 << doublings), options_.max_delay);
      if (options_.random) delay *= 1 - options_.random() / 2;
      return Send(delay);
    }
    if (!IsFromAgent(status)) result_.silent = call_->at;
    const bool begun = options_.goal != HandoffGoal::kFinish || result_.capture.has_value();
    return End(
        step == HandoffStep::kCheck && !begun ? HandoffEnd::kNothingDone : HandoffEnd::kPending,
        status);
  }
  switch (ask_) {
    case Ask::kSourceHost:
    case Ask::kDestinationHost:
    case Ask::kSourceVm:
    case Ask::kDestinationVm:
      return End(result_.capture.has_value() ? HandoffEnd::kPending : HandoffEnd::kNothingDone,
                 status);
    case Ask::kSourceHandoff:
      if (reason != v1::HANDOFF_NOT_FOUND) return End(HandoffEnd::kPending, status);
      result_.source.reset();
      return Go(Ask::kDestinationHandoff);
    case Ask::kDestinationHandoff:
      if (reason != v1::HANDOFF_NOT_FOUND) return End(HandoffEnd::kPending, status);
      result_.destination.reset();
      return Decide();
    case Ask::kCapture:
      if (reason == v1::HANDOFF_DECIDED) return AskAgain(status);
      // An id that exists with other content is somebody else's handoff.
      return End(result_.source.has_value() ? HandoffEnd::kPending : HandoffEnd::kNothingDone,
                 status);
    case Ask::kApply:
      return ApplyFailed(status);
    case Ask::kCommitSource:
      if (reason == v1::HANDOFF_DECIDED) return AskAgain(status);
      return End(HandoffEnd::kPending, status);
    case Ask::kCommitDestination:
      if (MayReturn(status)) return Send(options_.max_delay);
      // The VM that the state was applied to is gone: another one is given it.
      if (reason == v1::HANDOFF_UNDECIDED || reason == v1::HANDOFF_NOT_FOUND)
        return AskAgain(status);
      return End(HandoffEnd::kPending, status);
    case Ask::kAbortSource:
      if (reason == v1::HANDOFF_NOT_FOUND) return End(HandoffEnd::kNothingDone, status);
      if (reason == v1::HANDOFF_DECIDED) {
        // Somebody else has committed it.
        refusal_ = absl::OkStatus();
        return AskAgain(status);
      }
      return End(HandoffEnd::kPending, status);
    case Ask::kAbortDestination:
      return End(HandoffEnd::kPending, status);
  }
}

void HandoffRun::ApplyFailed(const absl::Status& status) {
  const v1::ErrorReason reason = ReasonOf(status);
  if (reason == v1::HANDOFF_DECIDED) return AskAgain(status);
  // Applied by somebody else, with other options: what matters is that it is applied.
  if (reason == v1::HANDOFF_ID_REUSED) return AskAgain(status);
  // A VMM that is away may have the state or not: its agent finds out, and undoes it.
  if (reason == v1::VMM_GONE && attempts_ < options_.max_attempts) return Send(options_.max_delay);
  if (MayReturn(status)) return Send(options_.max_delay);
  Refuse(status);
}

bool HandoffRun::MayReturn(const absl::Status& status) const {
  return ReasonOf(status) == v1::VM_NOT_FOUND &&
         attempts_ < std::min(options_.max_attempts, kMaxReturns);
}

void HandoffRun::Refuse(const absl::Status& why) {
  if (released()) return End(HandoffEnd::kPending, why);
  refusal_ = why;
  Go(Ask::kAbortSource);
}

std::string SourceAgentFor(const v1::SetTscStateRequest& apply, bool probe,
                           const v1::HostInfo& source, const v1::HostInfo& destination) {
  if (!apply.source_agent().empty()) return apply.source_agent();
  if (!probe || apply.mode() != v1::APPLY_MODE_ELAPSED) return "";
  const bool same_host = !source.boot_id().empty() && source.boot_id() == destination.boot_id();
  return same_host ? "" : source.peer_address();
}

const char* NameOf(HandoffStep step) {
  switch (step) {
    case HandoffStep::kCheck:
      return "check";
    case HandoffStep::kAsk:
      return "ask both agents";
    case HandoffStep::kCapture:
      return "capture";
    case HandoffStep::kApply:
      return "apply";
    case HandoffStep::kCommitSource:
      return "commit source";
    case HandoffStep::kCommitDestination:
      return "commit destination";
    case HandoffStep::kAbortSource:
      return "abort source";
    case HandoffStep::kAbortDestination:
      return "abort destination";
  }
  return "?";
}

}  // namespace tsc_handoff::client
