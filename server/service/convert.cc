#include "server/service/convert.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/version.h"
#include "server/peer/clock_claim.h"
#include "server/peer/grpc_peer_prober.h"
#include "server/state/tsc_state_codec.h"

namespace tsc_handoff::service {
namespace {

namespace v1 = tschandoff::v1;

constexpr size_t kMaxId = 128;
constexpr size_t kAgentIdBytes = 16;

absl::Status Invalid(const std::string& field, const std::string& what) {
  return Error(Reason::kRequestInvalid, absl::StrCat(field, " ", what), {{"field", field}});
}

// Durations are uint64 on the wire and int64 inside.
absl::Status CheckDuration(const std::string& field, uint64_t value_ns) {
  if (value_ns <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return absl::OkStatus();
  return Invalid(field, "is longer than 292 years");
}

template <typename Response>
void AddWarnings(const std::vector<handoff::Warning>& warnings, Response& response) {
  for (const handoff::Warning& warning : warnings) {
    v1::Warning* added = response.add_warnings();
    added->set_code(static_cast<v1::Warning::Code>(warning.code));
    added->set_message(warning.message);
  }
}

v1::ErrorBound ToProto(const time::ErrorBound& bound) {
  v1::ErrorBound proto;
  proto.set_total_ns(static_cast<uint64_t>(bound.total_ns()));
  proto.set_source_read_ns(static_cast<uint64_t>(bound.source_read_ns));
  proto.set_destination_read_ns(static_cast<uint64_t>(bound.destination_read_ns));
  proto.set_source_clock_ns(static_cast<uint64_t>(bound.source_clock_ns));
  proto.set_destination_clock_ns(static_cast<uint64_t>(bound.destination_clock_ns));
  proto.set_rate_ns(static_cast<uint64_t>(bound.rate_ns));
  proto.set_rounding_ns(static_cast<uint64_t>(bound.rounding_ns));
  proto.set_probe_ns(static_cast<uint64_t>(bound.probe_ns));
  return proto;
}

v1::Vm::Port ToProto(registry::PortKind port) {
  switch (port) {
    case registry::PortKind::kInProcess:
      return v1::Vm::PORT_IN_PROCESS;
    case registry::PortKind::kCooperative:
      return v1::Vm::PORT_COOPERATIVE;
    case registry::PortKind::kAttached:
      return v1::Vm::PORT_ATTACHED;
    case registry::PortKind::kNone:
      return v1::Vm::PORT_NONE;
  }
  return v1::Vm::PORT_UNSPECIFIED;
}

v1::TscObservation ToProto(const observe::Observation& observation) {
  v1::TscObservation proto;
  proto.set_phase_spread_ticks(observation.phase_spread_ticks);
  proto.set_offsets_equal(observation.offsets_equal);
  proto.set_scaled(observation.scaled);
  proto.set_observed_at_ns(observation.observed_at_ns);
  proto.set_changed_on_its_own(observation.changed_on_its_own);
  return proto;
}

v1::ClockProbe ToProto(const time::ClockProbe& probe) {
  v1::ClockProbe proto;
  proto.set_offset_ns(probe.wall_offset_ns);
  proto.set_offset_error_ns(static_cast<uint64_t>(probe.wall_offset_error_ns));
  proto.set_round_trip_ns(static_cast<uint64_t>(probe.round_trip_ns));
  proto.set_rounds(probe.rounds);
  proto.set_duration_ns(static_cast<uint64_t>(probe.duration_ns));
  return proto;
}

}  // namespace

absl::Status CheckId(const std::string& field, const std::string& id) {
  if (id.empty()) return Invalid(field, "is required");
  if (id.size() > kMaxId)
    return Invalid(field, absl::StrCat("is longer than ", kMaxId, " characters"));
  for (char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && std::strchr("._:-", c) == nullptr) {
      return Invalid(field, "has a character outside [A-Za-z0-9._:-]");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRequest(const v1::GetTscStateRequest& request) {
  absl::Status status = CheckId("vm_id", request.vm_id());
  if (request.handoff_id().empty()) {
    if (!request.destination_agent_id().empty() || !request.destination_vm_id().empty())
      status.Update(Invalid("handoff_id", "is required with a destination"));
    return status;
  }
  status.Update(CheckId("handoff_id", request.handoff_id()));
  status.Update(CheckId("destination_vm_id", request.destination_vm_id()));
  if (request.destination_agent_id().size() != kAgentIdBytes) {
    status.Update(
        Invalid("destination_agent_id",
                absl::StrCat("has ", request.destination_agent_id().size(), " bytes, not ",
                             kAgentIdBytes, "; take HostInfo.agent_id of the destination")));
  }
  return status;
}

absl::StatusOr<handoff::ApplyRequest> FromProto(const v1::SetTscStateRequest& request) {
  absl::Status status = CheckId("vm_id", request.vm_id());
  status.Update(CheckDuration("max_error_ns", request.max_error_ns()));
  status.Update(CheckDuration("max_elapsed_ns", request.max_elapsed_ns()));
  if (!request.source_agent().empty())
    status.Update(peer::CheckPeerAddress("source_agent", request.source_agent()));
  if (!request.has_state()) status.Update(Invalid("state", "is required"));
  if (request.mode() != v1::APPLY_MODE_ELAPSED && request.mode() != v1::APPLY_MODE_EXACT) {
    status.Update(Invalid("mode", "must be APPLY_MODE_ELAPSED or APPLY_MODE_EXACT"));
  }
  if (!status.ok()) return status;
  auto state = state::Decode(request.state());
  if (!state.ok()) return state.status();
  handoff::ApplyRequest out;
  out.vm_id = request.vm_id();
  out.state = *std::move(state);
  out.mode =
      request.mode() == v1::APPLY_MODE_EXACT ? time::ApplyMode::kExact : time::ApplyMode::kElapsed;
  out.max_error_ns = static_cast<int64_t>(request.max_error_ns());
  out.max_elapsed_ns = static_cast<int64_t>(request.max_elapsed_ns());
  out.allow_untrusted_clock = request.allow_untrusted_clock();
  out.equalise = request.equalise();
  out.keep_kvmclock = request.keep_kvmclock();
  out.validate_only = request.validate_only();
  out.source_agent = request.source_agent();
  return out;
}

v1::HostInfo ToProto(const host::HostFacts& host, const handoff::ClockNow& clock, size_t vm_count) {
  v1::HostInfo info;
  info.set_host_name(host.host_name);
  info.set_agent_version(kVersion);
  info.set_kernel_release(host.kernel_release);
  info.set_boot_id(host.boot_id);
  info.set_tsc_khz(host.tsc.host_khz);
  info.set_tsc_scaling(host.tsc.can_scale);
  info.set_tsc_scaling_frac_bits(host.tsc.frac_bits);
  info.set_tsc_stable(host.tsc_unstable_reason.empty());
  info.set_tsc_unstable_reason(host.tsc_unstable_reason);
  info.set_kvm_available(host.kvm_unavailable_reason.empty());
  info.set_kvm_unavailable_reason(host.kvm_unavailable_reason);
  *info.mutable_clock() = ToProto(clock);
  info.set_vm_count(static_cast<uint32_t>(vm_count));
  info.set_simulated(host.simulated);
  return info;
}

v1::ClockInfo ToProto(const handoff::ClockNow& clock) {
  return peer::ToProto(clock.quality, clock.realtime_ns);
}

v1::ClockReading ToProto(const time::ClockStamp& stamp) {
  v1::ClockReading reading;
  reading.set_host_tsc_ticks(stamp.host_tsc_ticks);
  reading.set_realtime_ns(stamp.realtime_ns);
  reading.set_read_error_ns(static_cast<uint64_t>(stamp.read_error_ns));
  return reading;
}

v1::CompareClocksResponse ToProto(const handoff::Comparison& comparison) {
  v1::CompareClocksResponse response;
  *response.mutable_probe() = ToProto(comparison.probe);
  *response.mutable_local() = ToProto(comparison.local);
  *response.mutable_peer() = ToProto(comparison.peer);
  response.set_verdict(static_cast<v1::CompareClocksResponse::Verdict>(handoff::Judge(comparison)));
  return response;
}

v1::Vm ToProto(const registry::RegisteredVm& vm, const handoff::VmStanding& standing,
               const std::optional<observe::Observation>& observation) {
  const registry::VmIdentity& identity = vm.identity();
  v1::Vm proto;
  proto.set_vm_id(identity.vm_id);
  proto.set_vcpu_count(static_cast<uint32_t>(identity.vcpu_ids.size()));
  proto.set_vmm_pid(identity.vmm_pid);
  proto.set_vmm_uid(identity.vmm_uid);
  proto.set_port(ToProto(identity.port));
  switch (vm.run_state()) {
    case registry::RunState::kUnknown:
      proto.set_run_state(v1::Vm::RUN_STATE_UNSPECIFIED);
      break;
    case registry::RunState::kPaused:
      proto.set_run_state(v1::Vm::RUN_STATE_PAUSED);
      break;
    case registry::RunState::kRunning:
      proto.set_run_state(v1::Vm::RUN_STATE_RUNNING);
      break;
  }
  proto.set_registered_at_ns(identity.registered_at_ns);
  proto.set_may_run(standing.permit.granted);
  proto.set_may_not_run_reason(standing.permit.reason);
  proto.set_epoch(standing.permit.epoch);
  proto.set_handoff_id(standing.handoff_id);
  if (const absl::Status& why = vm.unreachable(); !why.ok()) {
    proto.set_unreachable(
        static_cast<v1::ErrorReason>(ReasonOf(why).value_or(Reason::kInternalError)));
    proto.set_unreachable_reason(std::string(why.message()));
  }
  if (observation.has_value()) {
    // Of one whose descriptors do not tell which vCPUs it has.
    if (proto.vcpu_count() == 0) proto.set_vcpu_count(static_cast<uint32_t>(observation->vcpus));
    *proto.mutable_observation() = ToProto(*observation);
  }
  return proto;
}

v1::GetTscStateResponse ToProto(const handoff::CaptureOutcome& outcome) {
  v1::GetTscStateResponse response;
  *response.mutable_state() = state::Encode(outcome.state);
  v1::StateSummary& summary = *response.mutable_summary();
  summary.set_vcpu_count(static_cast<uint32_t>(outcome.state.vcpus.size()));
  summary.set_guest_tsc_khz(outcome.state.guest_khz);
  summary.set_phase_spread_ticks(outcome.phase_spread_ticks);
  summary.set_offsets_equal(outcome.phase_spread_ticks == 0);
  if (outcome.state.reference.has_value()) {
    *summary.mutable_reference() = state::ToProto(*outcome.state.reference);
  }
  summary.set_state_bytes(static_cast<uint32_t>(response.state().ByteSizeLong()));
  AddWarnings(outcome.warnings, response);
  return response;
}

v1::SetTscStateResponse ToProto(const handoff::ApplyOutcome& outcome) {
  v1::SetTscStateResponse response;
  response.mutable_vcpus()->Reserve(static_cast<int>(outcome.vcpus.size()));
  for (const handoff::VcpuOutcome& vcpu : outcome.vcpus) {
    v1::VcpuResult* result = response.add_vcpus();
    result->set_vcpu_id(vcpu.id);
    result->set_offset_before_ticks(vcpu.offset_before_ticks);
    result->set_offset_after_ticks(vcpu.offset_after_ticks);
    result->set_guest_tsc_ticks(vcpu.guest_tsc_ticks);
    result->set_tsc_adjust_ticks(static_cast<int64_t>(vcpu.tsc_adjust_ticks));
    result->set_tsc_deadline_ticks(vcpu.tsc_deadline_ticks);
  }
  const time::Elapsed& elapsed = outcome.time.elapsed;
  response.set_elapsed_ns(elapsed.elapsed_ns);
  response.set_elapsed_ticks(elapsed.elapsed_ticks);
  response.set_elapsed_basis(static_cast<v1::ElapsedBasis>(elapsed.basis));
  if (elapsed.bound.has_value()) *response.mutable_error_bound() = ToProto(*elapsed.bound);
  *response.mutable_reference() = state::ToProto(outcome.time.reference);
  response.set_commit_wait_ns(static_cast<uint64_t>(outcome.time.commit_wait_ns));
  response.set_rate_error_ppm(outcome.rate_error_ppm);
  if (outcome.time.probe.has_value()) *response.mutable_probe() = ToProto(*outcome.time.probe);
  response.set_phase_error_ticks(outcome.phase_error_ticks);
  if (outcome.kvmclock.has_value()) {
    v1::KvmClockResult& kvmclock = *response.mutable_kvmclock();
    kvmclock.set_moved(true);
    kvmclock.set_kvmclock_ns(outcome.kvmclock->kvmclock_ns);
    kvmclock.set_error_ns(outcome.kvmclock->error_ns);
    kvmclock.set_read_error_ns(static_cast<uint64_t>(outcome.kvmclock->read_error_ns));
    kvmclock.set_master_clock(outcome.kvmclock->master_clock);
  }
  AddWarnings(outcome.warnings, response);
  response.set_validated_only(outcome.validated_only);
  return response;
}

v1::Handoff ToProto(const handoff::HandoffView& view) {
  const journal::HandoffRecord& record = *view.record;
  v1::Handoff proto;
  proto.set_handoff_id(record.ticket.handoff_id);
  proto.set_side(static_cast<v1::Handoff::Side>(record.side));
  proto.set_state(static_cast<v1::Handoff::State>(record.state));
  proto.set_vm_id(record.vm_id);
  *proto.mutable_ticket() = state::ToProto(record.ticket);
  if (record.state == journal::State::kReleased) proto.set_release_proof(record.release_proof);
  if (record.state == journal::State::kAborted) proto.set_abort_proof(record.abort_proof);
  proto.set_begun_at_ns(record.begun_at_ns);
  proto.set_changed_at_ns(record.changed_at_ns);
  proto.set_undecided(view.undecided);
  proto.set_silent_ns(static_cast<uint64_t>(view.silent_ns));
  proto.set_restored(record.restored);
  proto.set_vm_lost(view.vm_lost);
  return proto;
}

absl::StatusOr<time::HandoffTicket> TicketFromProto(const v1::HandoffTicket& proto) {
  auto ticket = state::FromProto(proto);
  if (!ticket.ok())
    return Invalid("ticket", "is not one: " + std::string(ticket.status().message()));
  return ticket;
}

}  // namespace tsc_handoff::service
