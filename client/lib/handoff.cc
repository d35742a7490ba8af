#include "client/lib/handoff.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

// Times one step and tells the listener.
absl::Status RunStep(const HandoffRequest& request, HandoffStep step, absl::Duration* duration,
                     const std::function<absl::Status()>& body) {
  using Event = HandoffProgress::Event;
  if (request.progress) request.progress({step, Event::kStarted, absl::ZeroDuration()});
  const absl::Duration start = request.time.steady_now();
  absl::Status status = body();
  *duration = request.time.steady_now() - start;
  if (request.progress)
    request.progress({step, status.ok() ? Event::kDone : Event::kFailed, *duration});
  return status;
}

HandoffStage StageAfterFailedApply(const absl::Status& status) {
  // A VMM that hangs may have carried it out, as a whole.
  if (IsOutcomeUnknown(status) || ReasonOf(status) == v1::VMM_GONE) {
    return HandoffStage::kApplyUnknown;
  }
  if (ReasonOf(status) == v1::ROLLBACK_FAILED) return HandoffStage::kDestinationBroken;
  return HandoffStage::kCaptured;
}

std::string Situation(const HandoffReport& report, const HandoffRequest& request,
                      const std::string& from, const std::string& to) {
  const std::string source = absl::StrCat("VM ", request.source_vm_id, " at ", from);
  const std::string destination = absl::StrCat("VM ", request.apply.vm_id(), " at ", to);
  switch (report.stage) {
    case HandoffStage::kNothingDone:
      return "Nothing was captured and nothing was changed.";
    case HandoffStage::kCaptured:
      return absl::StrCat("Captured, nothing applied: ", source,
                          " is as it was, still paused; it may be resumed there.");
    case HandoffStage::kApplyUnknown:
      return absl::StrCat("Captured, and it is not known whether it was applied: ", destination,
                          " may have the new TSCs or its old ones. ", source,
                          " is as it was. Keep both paused and repeat the handoff.");
    case HandoffStage::kDestinationBroken:
      return absl::StrCat("Captured, and applied in part only: do not run ", destination, ". ",
                          source, " is as it was, still paused; it may be resumed there.");
    case HandoffStage::kApplied:
      if (!report.status.ok()) {
        return absl::StrCat("Applied, but the result is wrong: do not run ", destination, ". ",
                            source, " is as it was, still paused; it may be resumed there.");
      }
      if (report.apply.validated_only()) return "It would succeed; nothing was changed.";
      return absl::StrCat("Applied: resume ", destination, ", and never again ", source, ".");
  }
  return "";
}

absl::Status Capture(AgentClient& source, const HandoffRequest& request, HandoffReport* report) {
  absl::StatusOr<v1::GetTscStateResponse> response = source.GetTscState(request.source_vm_id);
  if (!response.ok())
    return Annotate(response.status(), absl::StrCat("capture at ", source.target()));
  report->capture = *std::move(response);
  report->stage = HandoffStage::kCaptured;
  return absl::OkStatus();
}

absl::Status Apply(AgentClient& destination, const v1::SetTscStateRequest& apply,
                   HandoffReport* report) {
  absl::StatusOr<v1::SetTscStateResponse> response = destination.SetTscState(apply);
  if (!response.ok()) {
    report->stage = StageAfterFailedApply(response.status());
    return Annotate(response.status(), absl::StrCat("apply at ", destination.target()));
  }
  report->apply = *std::move(response);
  report->stage = HandoffStage::kApplied;
  return absl::OkStatus();
}

absl::Status AtSource(const AgentClient& source, const absl::Status& status) {
  return Annotate(status, absl::StrCat("look at the source ", source.target()));
}

absl::Status AtDestination(const AgentClient& destination, const absl::Status& status) {
  return Annotate(status, absl::StrCat("look at the destination ", destination.target()));
}

// Where others reach the source's agent, as it says of itself; empty where nobody is to be probed.
absl::StatusOr<std::string> FindSourceAgent(AgentClient& source, AgentClient& destination,
                                            const HandoffRequest& request) {
  if (!request.apply.source_agent().empty()) return request.apply.source_agent();
  if (!request.probe || request.apply.mode() != v1::APPLY_MODE_ELAPSED) return std::string();
  const absl::StatusOr<v1::HostInfo> from = source.GetHostInfo();
  if (!from.ok()) return AtSource(source, from.status());
  if (from->peer_address().empty()) return std::string();
  const absl::StatusOr<v1::HostInfo> to = destination.GetHostInfo();
  if (!to.ok()) return AtDestination(destination, to.status());
  const bool same_host = !from->boot_id().empty() && from->boot_id() == to->boot_id();
  return same_host ? std::string() : from->peer_address();
}

absl::Status Check(AgentClient& source, AgentClient& destination, const HandoffRequest& request,
                   HandoffReport* report) {
  absl::Status status = source.GetVm(request.source_vm_id).status();
  if (!status.ok()) return AtSource(source, status);
  status = destination.GetVm(request.apply.vm_id()).status();
  if (!status.ok()) return AtDestination(destination, status);
  absl::StatusOr<std::string> source_agent = FindSourceAgent(source, destination, request);
  if (!source_agent.ok()) return source_agent.status();
  report->source_agent = *std::move(source_agent);
  return absl::OkStatus();
}

// A damaged state ends the handoff here; one that is newer than this library is the agents' matter.
absl::Status Open(HandoffReport* report) {
  absl::StatusOr<StateView> state = DecodeState(report->capture.state());
  if (state.ok()) {
    report->captured_state = *std::move(state);
    return absl::OkStatus();
  }
  if (ReasonOf(state.status()) == v1::STATE_VERSION_UNSUPPORTED) return absl::OkStatus();
  return Annotate(state.status(), "check what was captured");
}

absl::Status CaptureAndApply(AgentClient& source, AgentClient& destination,
                             const HandoffRequest& request, HandoffReport* report) {
  absl::Status status = RunStep(request, HandoffStep::kCapture, &report->get_rpc,
                                [&] { return Capture(source, request, report); });
  if (!status.ok()) return status;
  if (status = Open(report); !status.ok()) return status;
  v1::SetTscStateRequest apply = request.apply;
  *apply.mutable_state() = report->capture.state();
  apply.set_source_agent(report->source_agent);
  return RunStep(request, HandoffStep::kApply, &report->set_rpc,
                 [&] { return Apply(destination, apply, report); });
}

absl::Status RunSteps(AgentClient& source, AgentClient& destination, const HandoffRequest& request,
                      HandoffReport* report) {
  absl::Status status = RunStep(request, HandoffStep::kCheck, &report->check,
                                [&] { return Check(source, destination, request, report); });
  if (!status.ok()) return status;
  const absl::Duration start = request.time.steady_now();
  status = CaptureAndApply(source, destination, request, report);
  report->handoff = request.time.steady_now() - start;
  if (!status.ok() || report->captured_state.vcpus.empty()) return status;
  return VerifyApplied(request.apply.equalise(), report);
}

}  // namespace

absl::Status VerifyApplied(bool equalise, HandoffReport* report) {
  const std::vector<VcpuView>& before = report->captured_state.vcpus;
  const auto& after = report->apply.vcpus();
  if (before.empty() || before.size() != static_cast<size_t>(after.size())) {
    return absl::InternalError(absl::StrCat("the destination reports ", after.size(), " vCPUs; ",
                                            before.size(), " were captured"));
  }
  report->phase_change_ticks.clear();
  const int64_t first_moved = TickDifference(after[0].guest_tsc_ticks(), before[0].guest_tsc_ticks);
  for (int i = 0; i < after.size(); ++i) {
    const VcpuView& was = before[static_cast<size_t>(i)];
    if (was.id != after[i].vcpu_id()) {
      return absl::InternalError(absl::StrCat("the destination reports vCPU ", after[i].vcpu_id(),
                                              " in the place of ", was.id));
    }
    const int64_t moved = TickDifference(after[i].guest_tsc_ticks(), was.guest_tsc_ticks);
    if (moved < 0) {
      return absl::InternalError(absl::StrCat("the TSC of vCPU ", was.id, " went from ",
                                              was.guest_tsc_ticks, " ticks back to ",
                                              after[i].guest_tsc_ticks()));
    }
    report->phase_change_ticks.push_back(moved - first_moved);
  }
  const auto [low, high] =
      std::minmax_element(report->phase_change_ticks.begin(), report->phase_change_ticks.end());
  report->phase_error_ticks = static_cast<uint64_t>(*high) - static_cast<uint64_t>(*low);
  if (report->phase_error_ticks != 0 && !equalise) {
    return absl::InternalError(
        absl::StrCat("the phase between the vCPUs changed by up to ", report->phase_error_ticks,
                     " ticks, though the destination's agent reports success"));
  }
  return absl::OkStatus();
}

HandoffReport Handoff(AgentClient& source, AgentClient& destination,
                      const HandoffRequest& request) {
  HandoffReport report;
  const absl::Duration start = request.time.steady_now();
  report.status = RunSteps(source, destination, request, &report);
  report.total = request.time.steady_now() - start;
  report.situation = Situation(report, request, source.target(), destination.target());
  return report;
}

}  // namespace tsc_handoff::client
