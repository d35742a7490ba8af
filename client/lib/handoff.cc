#include "client/lib/handoff.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/lib/phase_check.h"
#include "client/lib/rpc_error.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

// Times the steps and tells the listener.
class StepTimer {
 public:
  explicit StepTimer(const HandoffRequest& request) : request_(request) {}

  void Begin(HandoffStep step) {
    if (step_ == step) return;
    End(true);
    step_ = step;
    started_ = request_.time.steady_now();
    Tell(HandoffProgress::Event::kStarted, absl::ZeroDuration());
  }

  void End(bool ok) {
    if (!step_.has_value()) return;
    const absl::Duration took = request_.time.steady_now() - started_;
    durations_[*step_] += took;
    Tell(ok ? HandoffProgress::Event::kDone : HandoffProgress::Event::kFailed, took);
    step_.reset();
  }

  // When the step that is under way began.
  absl::Duration started() const { return started_; }

  absl::Duration Of(HandoffStep step) const {
    const auto found = durations_.find(step);
    return found == durations_.end() ? absl::ZeroDuration() : found->second;
  }

 private:
  void Tell(HandoffProgress::Event event, absl::Duration duration) const {
    if (request_.progress) request_.progress({*step_, event, duration});
  }

  const HandoffRequest& request_;
  std::optional<HandoffStep> step_;
  absl::Duration started_;
  std::map<HandoffStep, absl::Duration> durations_;
};

std::string Where(const std::string& vm_id, const std::string& agent) {
  return vm_id.empty() ? absl::StrCat("the VM at ", agent)
                       : absl::StrCat("VM ", vm_id, " at ", agent);
}

std::string Situation(const HandoffReport& report, const HandoffRequest& request,
                      const std::string& from, const std::string& to) {
  const std::string source =
      Where(report.source.has_value() ? report.source->vm_id() : request.source_vm_id, from);
  const std::string destination =
      Where(report.source.has_value() ? report.source->ticket().destination_vm_id()
                                      : request.apply.vm_id(),
            to);
  switch (report.end) {
    case HandoffEnd::kNothingDone:
      return "Nothing was captured and nothing was changed.";
    case HandoffEnd::kUndone:
      if (ReasonOf(report.status) == v1::ROLLBACK_FAILED) {
        return absl::StrCat("Aborted: ", source, " may be resumed; do not use ", destination,
                            ", it has neither its old TSCs nor the new ones.");
      }
      return absl::StrCat("Aborted: ", source, " is as it was and may be resumed; ", destination,
                          " has what it had before.");
    case HandoffEnd::kMoved:
      return absl::StrCat("Handed over: resume ", destination, ", and never again ", source, ".");
    case HandoffEnd::kPending:
      if (report.source.has_value() && report.source->state() == v1::Handoff::STATE_RELEASED) {
        return absl::StrCat("Released and not finished: ", source, " may not run any more, and ",
                            destination, " not yet.");
      }
      if (report.source.has_value() && report.source->state() == v1::Handoff::STATE_ABORTED) {
        return absl::StrCat("Aborted, and ", to, " does not know it yet: ", source,
                            " may be resumed.");
      }
      return absl::StrCat("Not decided: keep ", source, " and ", destination, " paused.");
    case HandoffEnd::kUndecidable:
      return absl::StrCat("Nothing was changed; keep ", destination, " paused.");
  }
  return "";
}

HandoffRunOptions RunOptions(const HandoffRequest& request, const std::string& id) {
  HandoffRunOptions options;
  options.goal = request.goal;
  options.handoff_id = id;
  options.source_vm_id = request.source_vm_id;
  options.apply = request.apply;
  options.probe = request.probe;
  options.max_attempts = request.max_attempts;
  options.max_looks = request.max_looks;
  options.random = request.time.random;
  return options;
}

std::string Doing(const AgentCall& call, const std::string& agent) {
  if (call.step == HandoffStep::kCheck) {
    return absl::StrCat("look at the ", call.at == At::kSource ? "source " : "destination ", agent);
  }
  return absl::StrCat(NameOf(call.step), " at ", agent);
}

void RunToItsEnd(AgentClient& source, AgentClient& destination, const HandoffRequest& request,
                 HandoffReport* report) {
  HandoffRun run(RunOptions(request, report->handoff_id));
  StepTimer timer(request);
  std::optional<absl::Duration> began;
  absl::Status cut;  // why it was not run to its end
  while (const AgentCall* call = run.next()) {
    const bool patient = call->delay == absl::ZeroDuration() || request.time.sleep(call->delay);
    const bool begins = call->step == HandoffStep::kCapture && !began.has_value();
    if (begins && request.before_capture) {
      timer.End(true);
      cut = request.before_capture();
    }
    if (cut.ok() && (!patient || (request.stop && request.stop())))
      cut = absl::CancelledError("stopped as asked");
    if (!cut.ok()) break;
    timer.Begin(call->step);
    if (begins) began = timer.started();
    AgentClient& agent = call->at == At::kSource ? source : destination;
    auto answer = agent.Call(call->request);
    if (answer.ok()) {
      run.Answer(*std::move(answer));
    } else {
      run.Answer(Annotate(answer.status(), Doing(*call, agent.target())));
    }
  }
  const HandoffResult& result = run.result();
  timer.End(cut.ok() && result.status.ok());
  const bool begun = began.has_value() || request.goal != HandoffGoal::kFinish;
  report->end = cut.ok() ? result.end : begun ? HandoffEnd::kPending : HandoffEnd::kNothingDone;
  report->status = cut.ok() ? result.status : cut;
  report->silent = result.silent;
  report->source_agent = result.source_agent;
  report->source = result.source;
  report->destination = result.destination;
  if (result.capture.has_value()) report->capture = *result.capture;
  report->applied = result.apply;
  report->check = timer.Of(HandoffStep::kCheck);
  report->get_rpc = timer.Of(HandoffStep::kCapture);
  report->set_rpc = timer.Of(HandoffStep::kApply);
  report->commits =
      timer.Of(HandoffStep::kCommitSource) + timer.Of(HandoffStep::kCommitDestination);
  if (began.has_value()) report->handoff = request.time.steady_now() - *began;
}

// Would it work? Captures without a handoff, and has the destination validate.
absl::Status Validate(AgentClient& source, AgentClient& destination, const HandoffRequest& request,
                      HandoffReport* report) {
  const auto at = [](const char* doing, const AgentClient& agent, const absl::Status& status) {
    return Annotate(status, absl::StrCat(doing, " ", agent.target()));
  };
  const auto from = source.GetHostInfo();
  if (!from.ok()) return at("look at the source", source, from.status());
  const auto to = destination.GetHostInfo();
  if (!to.ok()) return at("look at the destination", destination, to.status());
  report->source_agent = SourceAgentFor(request.apply, request.probe, *from, *to);
  auto captured = source.GetTscState(request.source_vm_id);
  if (!captured.ok()) return at("capture at", source, captured.status());
  report->capture = *std::move(captured);
  v1::SetTscStateRequest apply = request.apply;
  *apply.mutable_state() = report->capture.state();
  apply.set_source_agent(report->source_agent);
  auto applied = destination.SetTscState(apply);
  if (!applied.ok()) return at("apply at", destination, applied.status());
  report->applied = *std::move(applied);
  return absl::OkStatus();
}

// What can be computed here of what was captured and applied.
void View(const HandoffRequest& request, HandoffReport* report) {
  if (report->applied.has_value()) report->apply = *report->applied;
  if (!report->capture.has_state()) return;
  absl::StatusOr<StateView> state = DecodeState(report->capture.state());
  if (!state.ok()) return;
  report->captured_state = *std::move(state);
  if (!report->applied.has_value()) return;
  absl::Status verified = VerifyApplied(request.apply.equalise(), report);
  if (report->status.ok()) report->status = std::move(verified);
}

}  // namespace

absl::Status VerifyApplied(bool equalise, HandoffReport* report) {
  absl::StatusOr<PhaseChange> change = CheckPhase(report->captured_state, report->apply, equalise);
  if (!change.ok()) return change.status();
  report->phase_change_ticks = std::move(change->per_vcpu_ticks);
  report->phase_error_ticks = change->largest_ticks;
  return absl::OkStatus();
}

HandoffReport Handoff(AgentClient& source, AgentClient& destination,
                      const HandoffRequest& request) {
  HandoffReport report;
  const absl::Duration start = request.time.steady_now();
  if (request.apply.validate_only()) {
    report.status = Validate(source, destination, request, &report);
    View(request, &report);
    report.situation =
        report.status.ok() ? "It would succeed; nothing was changed." : "Nothing was changed.";
  } else {
    report.handoff_id = request.handoff_id.empty() ? NewHandoffId() : request.handoff_id;
    RunToItsEnd(source, destination, request, &report);
    View(request, &report);
    report.situation = Situation(report, request, source.target(), destination.target());
  }
  report.total = request.time.steady_now() - start;
  return report;
}

std::string NewHandoffId() {
  std::random_device random;  // the kernel's; not to be guessed, and not twice
  uint32_t words[4];
  for (uint32_t& word : words) word = random();
  words[1] = (words[1] & 0xffff0fffu) | 0x00004000u;  // version 4
  words[2] = (words[2] & 0x3fffffffu) | 0x80000000u;  // RFC 4122's variant
  return absl::StrFormat("%08x-%04x-%04x-%04x-%04x%08x", words[0], words[1] >> 16,
                         words[1] & 0xffff, words[2] >> 16, words[2] & 0xffff, words[3]);
}

}  // namespace tsc_handoff::client
