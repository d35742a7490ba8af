#include "server/service/rpc_handlers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/base/error.h"
#include "server/base/failpoint.h"
#include "server/base/log.h"
#include "server/base/on_behalf_of.h"
#include "server/base/sha256.h"
#include "server/peer/grpc_peer_prober.h"
#include "server/service/convert.h"
#include "server/service/fault_metrics.h"
#include "server/service/rpc_status.h"

namespace tsc_handoff::service {
namespace {

namespace v1 = tschandoff::v1;
using journal::Side;

constexpr uint32_t kDefaultVmPage = 1000;
constexpr uint32_t kMaxVmPage = 10000;
constexpr uint32_t kDefaultHandoffPage = 100;
constexpr uint32_t kMaxHandoffPage = 1000;

absl::Status CheckPageSize(uint32_t page_size, uint32_t limit) {
  if (page_size <= limit) return absl::OkStatus();
  return Error(Reason::kRequestInvalid, absl::StrCat("page_size is above ", limit),
               {{"field", "page_size"}});
}

absl::Status WrongPageToken() {
  return Error(Reason::kRequestInvalid, "page_token is not one that this agent gave",
               {{"field", "page_token"}});
}

// Without one, nobody could tell a call that was given up from one that takes long.
absl::Status CheckDeadline(const CallInfo& call) {
  if (call.time_left_ns != CallInfo::kNoDeadline) return absl::OkStatus();
  return Error(Reason::kRequestInvalid,
               "calls that change something need a deadline; set one, such as 10 s",
               {{"field", "deadline"}});
}

bool MaySee(const CallInfo& call, const std::string& vm_id) {
  return !call.may_see || call.may_see(vm_id);
}

// Of one that was aborted before this agent heard of its state, only the ticket names the VM.
const std::string& VmOf(const journal::HandoffRecord& record) {
  return record.vm_id.empty() ? record.ticket.destination_vm_id : record.vm_id;
}

absl::Status HandoffNotFound(const std::string& handoff_id) {
  return Error(Reason::kHandoffNotFound, absl::StrCat("this agent knows no handoff ", handoff_id),
               {{"handoff_id", handoff_id}});
}

// For the audit.
std::string DigestOf(const v1::TscState& state) {
  return absl::BytesToHexString(Sha256(state.payload()));
}

void NoteHandoff(const CallInfo& call, const handoff::HandoffView& view) {
  if (call.note == nullptr) return;
  call.note->vm_id = VmOf(*view.record);
  call.note->epoch = view.record->ticket.epoch;
}

absl::StatusOr<Side> SideOf(v1::Handoff::Side side) {
  if (side == v1::Handoff::SIDE_SOURCE) return Side::kSource;
  if (side == v1::Handoff::SIDE_DESTINATION) return Side::kDestination;
  return Error(Reason::kRequestInvalid, "side must be SIDE_SOURCE or SIDE_DESTINATION",
               {{"field", "side"}});
}

// Far more than there ever are, and far from where counting up would wrap.
constexpr uint64_t kMaxEpochAbove = uint64_t{1} << 62;

template <typename Request>
absl::Status CheckClaim(const CallInfo& call, const Request& request) {
  if (absl::Status status = CheckDeadline(call); !status.ok()) return status;
  if (absl::Status status = CheckId("vm_id", request.vm_id()); !status.ok()) return status;
  return CheckId("handoff_id", request.handoff_id());
}

void CountSteps(const handoff::ApplyDurations& took, metrics::Metrics& metrics) {
  const auto count = [&](metrics::Step step, int64_t ns) {
    if (ns > 0) metrics.StepTook(step, absl::Nanoseconds(ns));
  };
  count(metrics::Step::kApplyRead, took.read_ns);
  count(metrics::Step::kApplyProbe, took.probe_ns);
  count(metrics::Step::kApplyWrite, took.write_ns);
}

// For the log of what is done to VMMs.
std::string Whom(const char* method, const std::string& handoff_id) {
  return handoff_id.empty() ? method : absl::StrCat(method, " of handoff ", handoff_id);
}

// As it was stored, so that a repeated answer is the first one.
template <typename Response>
absl::Status Deliver(const handoff::Answer& answer, Response& response) {
  if (!answer.repeated || response.ParseFromString(answer.bytes)) return absl::OkStatus();
  return Error(Reason::kInternalError, "the journal's stored answer cannot be read");
}

}  // namespace

size_t RpcHandlers::CountVms(const CallInfo& call) const {
  if (!call.may_see) return parts_.registry.size();
  const auto vms = parts_.registry.List("", parts_.registry.size());
  return static_cast<size_t>(std::count_if(
      vms.begin(), vms.end(), [&](const auto& vm) { return call.may_see(vm->identity().vm_id); }));
}

absl::Status RpcHandlers::GetHostInfo(const CallInfo& call, v1::GetHostInfoResponse& response) {
  v1::HostInfo& info = *response.mutable_host();
  info = ToProto(parts_.host, parts_.timekeeper.Now(), CountVms(call));
  if (parts_.peer_address) info.set_peer_address(parts_.peer_address());
  info.set_agent_id(parts_.journal.agent_id());
  info.set_draining(parts_.handoffs.draining());
  info.set_journal_unavailable_reason(parts_.journal.unavailable_reason());
  return absl::OkStatus();
}

v1::Vm RpcHandlers::Describe(const registry::RegisteredVm& vm) const {
  std::optional<observe::Observation> observation;
  if (parts_.observation_of) observation = parts_.observation_of(vm.identity());
  return ToProto(vm, parts_.handoffs.StandingOf(vm), observation);
}

absl::Status RpcHandlers::CheckMaySee(const CallInfo& call, const std::string& handoff_id) const {
  if (!call.may_see) return absl::OkStatus();
  for (const Side side : {Side::kSource, Side::kDestination}) {
    const std::string vm_id = parts_.handoffs.VmIdOf(handoff_id, side);
    if (!vm_id.empty() && !call.may_see(vm_id)) return HandoffNotFound(handoff_id);
  }
  return absl::OkStatus();
}

absl::Status RpcHandlers::ListVms(const CallInfo& call, const v1::ListVmsRequest& request,
                                  v1::ListVmsResponse& response) {
  if (absl::Status status = CheckPageSize(request.page_size(), kMaxVmPage); !status.ok())
    return status;
  if (!request.page_token().empty() && !CheckId("page_token", request.page_token()).ok())
    return WrongPageToken();
  const size_t page_size = request.page_size() == 0 ? kDefaultVmPage : request.page_size();
  const size_t all = call.may_see ? parts_.registry.size() : page_size + 1;
  auto vms = parts_.registry.List(request.page_token(), all);
  std::erase_if(vms, [&](const auto& vm) { return !MaySee(call, vm->identity().vm_id); });
  for (size_t i = 0; i < vms.size() && i < page_size; ++i) *response.add_vms() = Describe(*vms[i]);
  if (vms.size() > page_size) response.set_next_page_token(vms[page_size - 1]->identity().vm_id);
  return absl::OkStatus();
}

absl::Status RpcHandlers::GetVm(const v1::GetVmRequest& request, v1::GetVmResponse& response) {
  if (absl::Status status = CheckId("vm_id", request.vm_id()); !status.ok()) return status;
  auto vm = parts_.registry.Find(request.vm_id());
  if (!vm.ok()) return vm.status();
  const OnBehalfOf whom("GetVm");
  // Somebody who operates on the VM right now learns its run state himself.
  if (const auto lease = registry::VmLease::Glance(*vm); lease.held()) {
    auto paused = lease.port().IsPaused();
    if (!paused.ok()) return paused.status();
    (*vm)->set_run_state(*paused ? registry::RunState::kPaused : registry::RunState::kRunning);
  }
  *response.mutable_vm() = Describe(**vm);
  return absl::OkStatus();
}

absl::Status RpcHandlers::GetTscState(const CallInfo& call, const v1::GetTscStateRequest& request,
                                      v1::GetTscStateResponse& response) {
  Failpoint("rpc.get_tsc_state.received");
  const OnBehalfOf whom(Whom("GetTscState", request.handoff_id()));
  if (call.note != nullptr) call.note->handoff_id = request.handoff_id();
  absl::Status status = Capture(call, request, response);
  if (status.ok() && call.note != nullptr) call.note->state_sha256 = DigestOf(response.state());
  Failpoint("rpc.get_tsc_state.answering");
  if (parts_.metrics != nullptr) parts_.metrics->CaptureDone(ReasonLabel(status));
  CountFault(status);
  return status;
}

absl::Status RpcHandlers::Capture(const CallInfo& call, const v1::GetTscStateRequest& request,
                                  v1::GetTscStateResponse& response) {
  if (absl::Status status = CheckRequest(request); !status.ok()) return status;
  if (request.handoff_id().empty()) {
    auto outcome = parts_.operations.Capture(request.vm_id(), port::Hold::kNo);
    if (!outcome.ok()) return outcome.status();
    response = ToProto(*outcome);
    return absl::OkStatus();
  }
  if (absl::Status status = CheckDeadline(call); !status.ok()) return status;
  const Stopwatch watch;
  handoff::CaptureCall capture;
  capture.vm_id = request.vm_id();
  capture.handoff_id = request.handoff_id();
  capture.destination_agent_id = request.destination_agent_id();
  capture.destination_vm_id = request.destination_vm_id();
  capture.request_digest = Sha256(request.SerializeAsString());
  capture.cancelled = call.cancelled;
  capture.afterwards = call.afterwards;
  capture.encode = [&](const handoff::CaptureOutcome& outcome) {
    if (call.note != nullptr && outcome.state.handoff.has_value())
      call.note->epoch = outcome.state.handoff->epoch;
    if (parts_.metrics != nullptr)
      parts_.metrics->StepTook(metrics::Step::kCaptureRead, absl::Nanoseconds(outcome.read_ns));
    response = ToProto(outcome);
    return response.SerializeAsString();
  };
  auto answer = parts_.handoffs.Capture(capture);
  PhaseDone(metrics::Phase::kCapture, answer.status(), watch);
  if (!answer.ok()) {
    response.Clear();
    return answer.status();
  }
  return Deliver(*answer, response);
}

absl::Status RpcHandlers::SetTscState(const CallInfo& call, const v1::SetTscStateRequest& request,
                                      v1::SetTscStateResponse& response) {
  Failpoint("rpc.set_tsc_state.received");
  absl::Status status = CheckDeadline(call);
  if (call.note != nullptr) call.note->state_sha256 = DigestOf(request.state());
  if (status.ok()) status = Apply(call, request, response);
  Failpoint("rpc.set_tsc_state.answering");
  if (!status.ok()) response.Clear();
  if (parts_.metrics != nullptr) parts_.metrics->ApplyDone(ReasonLabel(status));
  CountFault(status);
  return status;
}

absl::Status RpcHandlers::Apply(const CallInfo& call, const v1::SetTscStateRequest& request,
                                v1::SetTscStateResponse& response) {
  auto apply = FromProto(request);
  if (!apply.ok()) return apply.status();
  const auto& ticket = apply->state.handoff;
  const OnBehalfOf whom(Whom("SetTscState", ticket.has_value() ? ticket->handoff_id : ""));
  if (call.note != nullptr && ticket.has_value()) {
    call.note->handoff_id = ticket->handoff_id;
    call.note->epoch = ticket->epoch;
  }
  apply->time_left_ns = call.time_left_ns;
  if (!apply->state.handoff.has_value()) {
    auto outcome = parts_.handoffs.ApplyPlain(*apply);
    if (!outcome.ok()) return outcome.status();
    response = ToProto(*outcome);
    Applied(request.vm_id(), *outcome);
    return absl::OkStatus();
  }
  const Stopwatch watch;
  handoff::ApplyCall handoff_call;
  handoff_call.request = *std::move(apply);
  handoff_call.request_digest = Sha256(request.SerializeAsString());
  handoff_call.cancelled = call.cancelled;
  handoff_call.afterwards = call.afterwards;
  handoff_call.encode = [&](const handoff::ApplyOutcome& outcome) {
    response = ToProto(outcome);
    Applied(request.vm_id(), outcome);
    return response.SerializeAsString();
  };
  auto answer = parts_.handoffs.Apply(handoff_call);
  if (!request.validate_only()) PhaseDone(metrics::Phase::kApply, answer.status(), watch);
  if (!answer.ok()) return answer.status();
  return Deliver(*answer, response);
}

void RpcHandlers::Applied(const std::string& vm_id, const handoff::ApplyOutcome& outcome) {
  if (outcome.validated_only) return;
  const time::Elapsed& elapsed = outcome.time.elapsed;
  metrics::AppliedValues values;
  values.phase_spread_ticks = outcome.phase_spread_ticks;
  values.phase_error_ticks = outcome.phase_error_ticks;
  values.elapsed_ns = elapsed.elapsed_ns;
  values.commit_wait_ns = outcome.time.commit_wait_ns;
  values.rate_error_ppm = outcome.rate_error_ppm;
  values.accepted_untrusted_clock = elapsed.accepted_untrusted_clock;
  if (elapsed.bound.has_value()) values.error_bound_ns = elapsed.bound->total_ns();
  if (parts_.metrics != nullptr) {
    parts_.metrics->Applied(values);
    CountSteps(outcome.took, *parts_.metrics);
  }
  Log(LogLevel::kInfo, "applied TSC state",
      {{"vm", vm_id},
       {"vcpus", outcome.vcpus.size()},
       {"elapsed_ns", values.elapsed_ns},
       {"error_bound_ns", values.error_bound_ns},
       {"phase_error_ticks", values.phase_error_ticks},
       {"commit_wait_ns", values.commit_wait_ns},
       {"probed", outcome.time.probe.has_value()}});
}

absl::Status RpcHandlers::CommitHandoff(const CallInfo& call,
                                        const v1::CommitHandoffRequest& request,
                                        v1::CommitHandoffResponse& response) {
  if (absl::Status status = CheckDeadline(call); !status.ok()) return status;
  if (absl::Status status = CheckId("handoff_id", request.handoff_id()); !status.ok())
    return status;
  auto side = SideOf(request.side());
  if (!side.ok()) return side.status();
  if (call.note != nullptr) {
    call.note->handoff_id = request.handoff_id();
    call.note->vm_id = parts_.handoffs.VmIdOf(request.handoff_id(), *side);
  }
  if (absl::Status status = CheckMaySee(call, request.handoff_id()); !status.ok()) return status;
  Failpoint("rpc.commit_handoff.received");
  const OnBehalfOf whom(Whom("CommitHandoff", request.handoff_id()));
  const Stopwatch watch;
  auto view = parts_.handoffs.Commit(
      {request.handoff_id(), *side, request.release_proof(), call.cancelled, call.afterwards});
  PhaseDone(
      *side == Side::kSource ? metrics::Phase::kSourceCommit : metrics::Phase::kDestinationCommit,
      view.status(), watch);
  Failpoint("rpc.commit_handoff.answering");
  if (!view.ok()) return view.status();
  *response.mutable_handoff() = ToProto(*view);
  NoteHandoff(call, *view);
  return absl::OkStatus();
}

absl::Status RpcHandlers::AbortHandoff(const CallInfo& call, const v1::AbortHandoffRequest& request,
                                       v1::AbortHandoffResponse& response) {
  if (absl::Status status = CheckDeadline(call); !status.ok()) return status;
  if (absl::Status status = CheckId("handoff_id", request.handoff_id()); !status.ok())
    return status;
  auto side = SideOf(request.side());
  if (!side.ok()) return side.status();
  if (call.note != nullptr) {
    call.note->handoff_id = request.handoff_id();
    call.note->vm_id = parts_.handoffs.VmIdOf(request.handoff_id(), *side);
  }
  if (absl::Status status = CheckMaySee(call, request.handoff_id()); !status.ok()) return status;
  handoff::AbortCall abort{request.handoff_id(), *side, request.abort_proof(), std::nullopt,
                           call.cancelled};
  if (request.has_ticket()) {
    auto ticket = TicketFromProto(request.ticket());
    if (!ticket.ok()) return ticket.status();
    // A handoff that is not known here can be barred by its ticket, which names the VM.
    if (!MaySee(call, ticket->destination_vm_id)) return HandoffNotFound(request.handoff_id());
    abort.ticket = *std::move(ticket);
  }
  Failpoint("rpc.abort_handoff.received");
  const OnBehalfOf whom(Whom("AbortHandoff", request.handoff_id()));
  const Stopwatch watch;
  auto view = parts_.handoffs.Abort(abort);
  PhaseDone(
      *side == Side::kSource ? metrics::Phase::kSourceAbort : metrics::Phase::kDestinationAbort,
      view.status(), watch);
  Failpoint("rpc.abort_handoff.answering");
  if (!view.ok()) return view.status();
  *response.mutable_handoff() = ToProto(*view);
  NoteHandoff(call, *view);
  return absl::OkStatus();
}

absl::Status RpcHandlers::ReclaimVm(const CallInfo& call, const v1::ReclaimVmRequest& request,
                                    v1::ReclaimVmResponse& response) {
  if (absl::Status status = CheckClaim(call, request); !status.ok()) return status;
  if (!request.runs_nowhere_else()) {
    return Error(
        Reason::kRequestInvalid,
        "runs_nowhere_else is not set: who reclaims a VM vouches that it runs nowhere else",
        {{"field", "runs_nowhere_else"}});
  }
  if (request.epoch_above() > kMaxEpochAbove) {
    return Error(Reason::kRequestInvalid, "epoch_above is no epoch that can be",
                 {{"field", "epoch_above"}});
  }
  const OnBehalfOf whom(Whom("ReclaimVm", request.handoff_id()));
  return Settle(call,
                {handoff::Claim::kReclaim, request.vm_id(), request.handoff_id(),
                 request.epoch_above(), call.cancelled},
                response);
}

absl::Status RpcHandlers::DisownVm(const CallInfo& call, const v1::DisownVmRequest& request,
                                   v1::DisownVmResponse& response) {
  if (absl::Status status = CheckClaim(call, request); !status.ok()) return status;
  return Settle(call,
                {handoff::Claim::kDisown, request.vm_id(), request.handoff_id(), 0, call.cancelled},
                response);
}

template <typename Response>
absl::Status RpcHandlers::Settle(const CallInfo& call, const handoff::ClaimCall& claim,
                                 Response& response) {
  if (call.note != nullptr) call.note->handoff_id = claim.handoff_id;
  const auto outcome = parts_.handoffs.SettleClaim(claim);
  if (!outcome.ok()) return outcome.status();
  if (call.note != nullptr) call.note->epoch = outcome->epoch;
  response.set_epoch(outcome->epoch);
  response.set_repeated(outcome->repeated);
  if (!outcome->repeated) {
    Log(LogLevel::kWarn,
        claim.claim == handoff::Claim::kReclaim
            ? "a VM was reclaimed: by an operator's word it is here, and runs nowhere else"
            : "a VM was disowned: by an operator's word it is not here any more",
        {{"vm", claim.vm_id}, {"handoff", claim.handoff_id}, {"epoch", outcome->epoch}});
  }
  return absl::OkStatus();
}

absl::Status RpcHandlers::GetHandoff(const CallInfo& call, const v1::GetHandoffRequest& request,
                                     v1::GetHandoffResponse& response) {
  if (absl::Status status = CheckId("handoff_id", request.handoff_id()); !status.ok())
    return status;
  if (absl::Status status = CheckMaySee(call, request.handoff_id()); !status.ok()) return status;
  const auto source = parts_.handoffs.Get(request.handoff_id(), Side::kSource);
  const auto destination = parts_.handoffs.Get(request.handoff_id(), Side::kDestination);
  if (source.record != nullptr) *response.mutable_source() = ToProto(source);
  if (destination.record != nullptr) *response.mutable_destination() = ToProto(destination);
  if (response.has_source() || response.has_destination()) return absl::OkStatus();
  const std::string reason = parts_.journal.unavailable_reason();
  if (!reason.empty()) return Error(Reason::kJournalUnavailable, reason);
  return HandoffNotFound(request.handoff_id());
}

absl::Status RpcHandlers::ListHandoffs(const CallInfo& call, const v1::ListHandoffsRequest& request,
                                       v1::ListHandoffsResponse& response) {
  if (absl::Status status = CheckPageSize(request.page_size(), kMaxHandoffPage); !status.ok())
    return status;
  handoff::ListQuery query;
  query.vm_id = request.vm_id();
  query.pending_only = request.pending_only();
  query.undecided_only = request.undecided_only();
  if (!query.vm_id.empty()) {
    if (absl::Status status = CheckId("vm_id", query.vm_id); !status.ok()) return status;
  }
  if (!request.page_token().empty() &&
      (!absl::SimpleAtoi(request.page_token(), &query.before) || query.before == 0))
    return WrongPageToken();
  const size_t page_size = request.page_size() == 0 ? kDefaultHandoffPage : request.page_size();
  query.limit = call.may_see ? SIZE_MAX : page_size + 1;
  auto views = parts_.handoffs.List(query);
  std::erase_if(views, [&](const auto& view) { return !MaySee(call, VmOf(*view.record)); });
  for (size_t i = 0; i < views.size() && i < page_size; ++i)
    *response.add_handoffs() = ToProto(views[i]);
  if (views.size() > page_size)
    response.set_next_page_token(absl::StrCat(views[page_size - 1].ordinal));
  return absl::OkStatus();
}

absl::Status RpcHandlers::Drain(const CallInfo& call, const v1::DrainRequest& request,
                                v1::DrainResponse& response) {
  if (absl::Status status = CheckDeadline(call); !status.ok()) return status;
  const bool drain = request.mode() == v1::DrainRequest::MODE_DRAIN;
  if (!drain && request.mode() != v1::DrainRequest::MODE_SERVE)
    return Error(Reason::kRequestInvalid, "mode must be MODE_DRAIN or MODE_SERVE",
                 {{"field", "mode"}});
  if (parts_.drain) parts_.drain(drain);
  response.set_open_handoffs(static_cast<uint32_t>(parts_.handoffs.OpenCount()));
  return absl::OkStatus();
}

absl::Status RpcHandlers::Reload(const CallInfo& call, v1::ReloadResponse& response) {
  if (absl::Status status = CheckDeadline(call); !status.ok()) return status;
  if (!parts_.reload)
    return Error(Reason::kConfigInvalid, "the agent was started without a configuration file");
  const auto reloaded = parts_.reload();
  if (!reloaded.ok()) return reloaded.status();
  for (const std::string& setting : reloaded->changed) response.add_changed(setting);
  for (const std::string& setting : reloaded->needs_restart) response.add_needs_restart(setting);
  return absl::OkStatus();
}

absl::Status RpcHandlers::ProbeClock(v1::ProbeClockResponse& response) {
  // First of all: what comes between arrival and this reading widens the caller's interval.
  const auto received = parts_.timekeeper.TakeStamp();
  if (!received.ok()) return received.status();
  response.set_boot_id(parts_.host.boot_id);
  response.set_host_tsc_khz(parts_.host.tsc.host_khz);
  *response.mutable_clock() = ToProto(parts_.timekeeper.Now());
  *response.mutable_received() = ToProto(*received);
  const auto sent = parts_.timekeeper.TakeStamp();
  if (!sent.ok()) return sent.status();
  *response.mutable_sent() = ToProto(*sent);
  return absl::OkStatus();
}

absl::Status RpcHandlers::CompareClocks(const v1::CompareClocksRequest& request,
                                        v1::CompareClocksResponse& response) {
  if (absl::Status status = peer::CheckPeerAddress("peer", request.peer()); !status.ok())
    return status;
  auto comparison = parts_.timekeeper.Compare(request.peer());
  if (!comparison.ok()) return comparison.status();
  response = ToProto(*comparison);
  return absl::OkStatus();
}

void RpcHandlers::CountFault(const absl::Status& status) {
  if (parts_.metrics != nullptr) service::CountFault(status, *parts_.metrics);
}

void RpcHandlers::PhaseDone(metrics::Phase phase, const absl::Status& status,
                            const Stopwatch& watch) {
  if (parts_.metrics == nullptr) return;
  parts_.metrics->PhaseDone(phase, ReasonLabel(status), absl::Nanoseconds(watch.elapsed_ns()));
}

}  // namespace tsc_handoff::service
