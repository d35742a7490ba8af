#include "server/handoff/tsc_operations.h"

#include <linux/kvm.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/stopwatch.h"
#include "server/time/ticks.h"

namespace tsc_handoff::handoff {
namespace {

using time::TimeReference;
using time::TscScaling;
using time::TscState;

void NoteRunState(registry::RegisteredVm& vm, const absl::Status& status) {
  if (status.ok()) vm.set_run_state(registry::RunState::kPaused);
  if (ReasonOf(status) == Reason::kVmRunning) vm.set_run_state(registry::RunState::kRunning);
}

// The one frequency of all vCPUs.
absl::StatusOr<uint32_t> CommonKhz(const std::string& vm_id,
                                   const std::vector<tsc_vcpu_state>& vcpus) {
  for (const tsc_vcpu_state& vcpu : vcpus) {
    if (vcpu.tsc_khz != vcpus.front().tsc_khz) {
      return Error(
          Reason::kTscKhzMixed,
          absl::StrCat("VM ", vm_id, ": vCPU ", vcpus.front().vcpu_id, " runs at ",
                       vcpus.front().tsc_khz, " kHz, vCPU ", vcpu.vcpu_id, " at ", vcpu.tsc_khz),
          {{"vm_id", vm_id}, {"vcpu_id", absl::StrCat(vcpu.vcpu_id)}});
    }
  }
  return vcpus.front().tsc_khz;
}

// kvmclock at the reference: the reading moved on by the host TSC between the two.
time::KvmClockValue KvmClockAt(const tsc_kvmclock& reading, const TimeReference& reference) {
  time::KvmClockValue value;
  const uint64_t width = reading.tsc_after_ticks - reading.tsc_before_ticks;
  uint64_t read_at = reading.tsc_before_ticks + width / 2;
  value.read_error_ns =
      time::TicksToNs(static_cast<int64_t>(width / 2), reference.host_tsc_khz) + 1;
  if ((reading.flags & KVM_CLOCK_HOST_TSC) != 0) {
    read_at = reading.pair_host_tsc_ticks;
    value.read_error_ns = 1;
  }
  const auto passed = static_cast<int64_t>(reference.host_tsc_ticks - read_at);
  value.kvmclock_ns =
      reading.kvmclock_ns + static_cast<uint64_t>(time::TicksToNs(passed, reference.host_tsc_khz));
  value.master_clock = (reading.flags & KVM_CLOCK_TSC_STABLE) != 0;
  return value;
}

// Says where two sets of ids differ first, before anything is asked of the VM.
absl::Status CheckVcpuIds(const registry::VmIdentity& vm, const TscState& state) {
  std::vector<uint32_t> wanted;
  for (const time::VcpuTsc& vcpu : state.vcpus) wanted.push_back(vcpu.id);
  if (wanted == vm.vcpu_ids) return absl::OkStatus();
  const auto [in_state, in_vm] =
      std::mismatch(wanted.begin(), wanted.end(), vm.vcpu_ids.begin(), vm.vcpu_ids.end());
  const bool state_has_it =
      in_state != wanted.end() && (in_vm == vm.vcpu_ids.end() || *in_state < *in_vm);
  const uint32_t id = state_has_it ? *in_state : *in_vm;
  return Error(Reason::kVcpuSetMismatch,
               absl::StrCat("the state has ", wanted.size(), " vCPUs, VM ", vm.vm_id, " has ",
                            vm.vcpu_ids.size(), "; vCPU ", id, " is only in the ",
                            state_has_it ? "state" : "VM"),
               {{"vm_id", vm.vm_id},
                {"vcpu_id", absl::StrCat(id)},
                {"state_vcpus", absl::StrCat(wanted.size())},
                {"vm_vcpus", absl::StrCat(vm.vcpu_ids.size())}});
}

port::ApplyOrder MakeOrder(const time::ApplyPlan& plan, const TimeReference& reference,
                           uint32_t guest_khz, const time::TscCapability& host) {
  port::ApplyOrder order = {};
  order.target.host_tsc_ticks = reference.host_tsc_ticks;
  order.target.host_tsc_khz = reference.host_tsc_khz;
  // A host without scaling gives its own frequency, and refuses or ignores any other.
  if (host.can_scale || guest_khz != host.host_khz) order.target.flags |= TSC_TARGET_WRITE_KHZ;
  if (plan.kvmclock.has_value()) {
    order.target.flags |= TSC_TARGET_WRITE_KVMCLOCK;
    order.target.kvmclock_ns = plan.kvmclock->kvmclock_ns;
    order.target.realtime_ns = static_cast<uint64_t>(reference.realtime_ns);
  }
  order.vcpus.reserve(plan.vcpus.size());
  for (size_t i = 0; i < plan.vcpus.size(); ++i) {
    const time::VcpuTsc& vcpu = plan.vcpus[i];
    order.vcpus.push_back({vcpu.id, guest_khz, plan.offsets[i].offset_ticks, vcpu.tsc_adjust_ticks,
                           vcpu.tsc_deadline_ticks});
  }
  return order;
}

// Fills in what the kernel has now, and how exactly the phase arrived.
void FillVcpus(const TscState& state, const std::vector<tsc_vcpu_state>& before,
               const std::vector<tsc_vcpu_state>& after, const TscScaling& scaling,
               ApplyOutcome& outcome) {
  std::vector<uint64_t> captured;
  std::vector<uint64_t> now;
  captured.reserve(after.size());
  now.reserve(after.size());
  outcome.vcpus.reserve(after.size());
  for (size_t i = 0; i < after.size(); ++i) {
    const uint64_t guest =
        time::GuestTsc(scaling, outcome.time.reference.host_tsc_ticks, after[i].tsc_offset_ticks);
    outcome.vcpus.push_back({after[i].vcpu_id, before[i].tsc_offset_ticks,
                             after[i].tsc_offset_ticks, guest, after[i].tsc_adjust_ticks,
                             after[i].tsc_deadline_ticks});
    captured.push_back(state.vcpus[i].guest_tsc_ticks);
    now.push_back(guest);
  }
  outcome.phase_error_ticks = time::PhaseErrorTicks(captured, now);
  outcome.phase_spread_ticks = time::PhaseSpreadTicks(now);
}

void WarnOfPhase(uint64_t spread_ticks, std::vector<Warning>& warnings) {
  if (spread_ticks == 0) return;
  warnings.push_back({WarningCode::kMasterClockOff,
                      absl::StrCat("the vCPUs' TSCs differ by up to ", spread_ticks,
                                   " ticks; KVM's master clock is off for this VM")});
}

void WarnOfRate(const TscScaling& scaling, uint32_t guest_khz, uint32_t host_khz,
                std::vector<Warning>& warnings) {
  if (scaling.active() || guest_khz == host_khz) return;
  warnings.push_back(
      {WarningCode::kRateNotScaled,
       absl::StrCat("the guest is configured for ", guest_khz, " kHz and runs at this host's ",
                    host_khz, " kHz: ", time::DifferencePpm(guest_khz, host_khz),
                    " ppm apart, KVM does not scale")});
}

void WarnOfPlan(const ApplyRequest& request, const time::ApplyPlan& plan,
                std::vector<Warning>& warnings) {
  const time::Elapsed& elapsed = plan.elapsed;
  if (elapsed.accepted_untrusted_clock) {
    warnings.push_back(
        {WarningCode::kClockUntrusted,
         elapsed.bound.has_value()
             ? "an untrusted clock was accepted as asked: elapsed time rests on the probe of the "
               "source alone"
             : "an untrusted clock was accepted as asked: guest time may be wrong by any amount"});
  }
  if (request.equalise)
    warnings.push_back({WarningCode::kEqualised, "all vCPUs were given one TSC as asked"});
  if (elapsed.basis == time::ElapsedBasis::kClocks && request.source_agent.empty()) {
    warnings.push_back({WarningCode::kClocksNotProbed,
                        "the two hosts' clocks were believed, not compared: no source_agent was "
                        "named to be probed"});
  }
  if (elapsed.basis == time::ElapsedBasis::kClocks && !elapsed.used_tai) {
    warnings.push_back({WarningCode::kTaiUnknown,
                        "the hosts do not both know the TAI offset: a leap second between capture "
                        "and apply would move "
                        "guest time by 1 s"});
  }
  if (!plan.kvmclock.has_value()) {
    warnings.push_back({WarningCode::kKvmclockKept, request.keep_kvmclock
                                                        ? "kvmclock was left alone as asked"
                                                        : "the state has no kvmclock to move"});
  }
}

void WarnOfDeadlines(const time::ApplyPlan& plan, const std::vector<tsc_vcpu_state>& after,
                     std::vector<Warning>& warnings) {
  for (size_t i = 0; i < after.size(); ++i) {
    const time::VcpuTsc& wanted = plan.vcpus[i];
    const bool in_future =
        static_cast<int64_t>(wanted.tsc_deadline_ticks - wanted.guest_tsc_ticks) > 0;
    if (wanted.tsc_deadline_ticks == 0 ||
        after[i].tsc_deadline_ticks == wanted.tsc_deadline_ticks || !in_future)
      continue;
    warnings.push_back(
        {WarningCode::kDeadlineNotKept,
         absl::StrCat(
             "vCPU ", wanted.id,
             ": IA32_TSC_DEADLINE was not kept; its local APIC is not in TSC-deadline mode yet")});
    return;  // one is enough to know
  }
}

}  // namespace

absl::Status TscOperations::CheckHost() const {
  if (!host_.kvm_unavailable_reason.empty()) {
    return Error(Reason::kKvmUnavailable, host_.kvm_unavailable_reason);
  }
  if (!host_.tsc_unstable_reason.empty())
    return Error(Reason::kHostTscUnstable, host_.tsc_unstable_reason);
  return absl::OkStatus();
}

time::ApplyPolicy TscOperations::PolicyFor(const ApplyRequest& request) const {
  const Limits limits = limits_.Get();
  time::ApplyPolicy policy;
  policy.mode = request.mode;
  policy.max_error_ns = limits.max_error_ns;
  if (request.max_error_ns > 0 &&
      (request.max_error_ns < limits.max_error_ns || limits.permit_higher_error)) {
    policy.max_error_ns = request.max_error_ns;
  }
  policy.max_elapsed_ns =
      request.max_elapsed_ns > 0 ? request.max_elapsed_ns : limits.max_elapsed_ns;
  policy.allow_untrusted_clock = request.allow_untrusted_clock && limits.permit_untrusted_clock;
  policy.equalise = request.equalise;
  policy.rate_uncertainty_ppm = limits.rate_uncertainty_ppm;
  return policy;
}

// A caller who accepts what the operator does not permit is told who said no.
absl::Status TscOperations::ExplainPolicy(const ApplyRequest& request, absl::Status status) const {
  const Limits limits = limits_.Get();
  const auto reason = ReasonOf(status);
  const char* flag = nullptr;
  if (reason == Reason::kClockUntrusted && request.allow_untrusted_clock &&
      !limits.permit_untrusted_clock)
    flag = "allow_untrusted_clock needs the agent's --permit-untrusted-clock";
  if (reason == Reason::kClockBoundExceeded && request.max_error_ns > limits.max_error_ns &&
      !limits.permit_higher_error)
    flag = "a higher max_error needs the agent's --permit-higher-error";
  if (flag == nullptr) return status;
  return Error(*reason, absl::StrCat(std::string(status.message()), " (", flag, ")"),
               MetadataOf(status));
}

absl::StatusOr<CaptureOutcome> TscOperations::Capture(const std::string& vm_id, port::Hold hold) {
  if (absl::Status status = CheckHost(); !status.ok()) return status;
  auto lease = registry_.Lease(vm_id);
  if (!lease.ok()) return lease.status();
  const Stopwatch reading;
  auto read = lease->port().ReadAll(hold);
  const int64_t read_ns = reading.elapsed_ns();
  NoteRunState(lease->vm(), read.status());
  if (!read.ok()) return read.status();
  auto guest_khz = CommonKhz(vm_id, read->vcpus);
  if (!guest_khz.ok()) return guest_khz.status();
  // KVM_GET_TSC_KHZ repeats even a frequency that KVM refused; such a VM runs at another rate than
  // it says.
  auto scaling = TscScaling::For(host_.tsc, *guest_khz);
  if (!scaling.ok()) return scaling.status();

  auto reference = timekeeper_.TakeReference();
  if (!reference.ok()) return reference.status();
  CaptureOutcome outcome;
  outcome.read_ns = read_ns;
  outcome.state.vm_id = vm_id;
  outcome.state.reference = *reference;
  outcome.state.guest_khz = *guest_khz;
  outcome.state.boot_id = host_.boot_id;
  outcome.state.kvmclock = KvmClockAt(read->kvmclock, *reference);
  std::vector<uint64_t> guest;
  for (const tsc_vcpu_state& vcpu : read->vcpus) {
    guest.push_back(time::GuestTsc(*scaling, reference->host_tsc_ticks, vcpu.tsc_offset_ticks));
    outcome.state.vcpus.push_back(
        {vcpu.vcpu_id, guest.back(), vcpu.tsc_adjust_ticks, vcpu.tsc_deadline_ticks});
  }
  outcome.phase_spread_ticks = time::PhaseSpreadTicks(guest);
  WarnOfPhase(outcome.phase_spread_ticks, outcome.warnings);
  WarnOfRate(*scaling, *guest_khz, host_.tsc.host_khz, outcome.warnings);
  return outcome;
}

absl::StatusOr<ApplyOutcome> TscOperations::Apply(const ApplyRequest& request) {
  if (absl::Status status = CheckHost(); !status.ok()) return status;
  auto lease = registry_.Lease(request.vm_id);
  if (!lease.ok()) return lease.status();
  if (absl::Status status = CheckVcpuIds(lease->vm().identity(), request.state); !status.ok())
    return status;
  auto scaling = TscScaling::For(host_.tsc, request.state.guest_khz);
  if (!scaling.ok()) return scaling.status();

  SavedTscs before;
  ApplyDurations took;
  if (request.before_write) {
    const Stopwatch reading;
    auto read = lease->port().ReadAll(port::Hold::kNo);
    took.read_ns = reading.elapsed_ns();
    NoteRunState(lease->vm(), read.status());
    if (!read.ok()) return read.status();
    before = {std::move(read->vcpus), read->kvmclock};
  }
  TscState state = request.state;
  if (request.keep_kvmclock) state.kvmclock.reset();
  const time::ApplyPolicy policy = PolicyFor(request);
  const Stopwatch reckoning;
  auto time =
      timekeeper_.Reckon(state, *scaling, policy, request.source_agent, request.time_left_ns);
  const int64_t reckoning_ns = reckoning.elapsed_ns();
  if (!time.ok()) return ExplainPolicy(request, time.status());
  auto plan = time::PlanApply(state, time->reference, *scaling, time->elapsed, request.equalise);
  if (!plan.ok()) return plan.status();

  ApplyOutcome outcome;
  outcome.time = *std::move(time);
  if (outcome.time.probe.has_value()) took.probe_ns = reckoning_ns - outcome.time.commit_wait_ns;
  outcome.rate_error_ppm = time::RateErrorPpm(*scaling, host_.tsc.host_khz, state.guest_khz);
  outcome.validated_only = request.validate_only;
  const port::ApplyOrder order =
      MakeOrder(*plan, outcome.time.reference, state.guest_khz, host_.tsc);
  if (request.validate_only) {
    auto read = lease->port().ReadAll(port::Hold::kNo);
    NoteRunState(lease->vm(), read.status());
    if (!read.ok()) return read.status();
    FillVcpus(state, read->vcpus, order.vcpus, *scaling, outcome);
  } else {
    if (request.before_write) {
      if (absl::Status status = request.before_write(before, {order.vcpus, before.kvmclock});
          !status.ok())
        return status;
    }
    const Stopwatch writing;
    const registry::WriteNote note(lease->vm());
    auto applied = lease->port().WriteAll(order, request.hold);
    took.write_ns = writing.elapsed_ns();
    NoteRunState(lease->vm(), applied.status());
    if (!applied.ok()) return applied.status();
    FillVcpus(state, applied->before, applied->after, *scaling, outcome);
    if (plan->kvmclock.has_value()) {
      outcome.kvmclock = {plan->kvmclock->kvmclock_ns, applied->kvmclock.error_ns,
                          static_cast<int64_t>(applied->kvmclock.read_error_ns),
                          (applied->kvmclock.flags & KVM_CLOCK_TSC_STABLE) != 0};
    }
    WarnOfDeadlines(*plan, applied->after, outcome.warnings);
  }
  WarnOfPhase(outcome.phase_spread_ticks, outcome.warnings);
  WarnOfRate(*scaling, state.guest_khz, host_.tsc.host_khz, outcome.warnings);
  WarnOfPlan(request, *plan, outcome.warnings);
  outcome.took = took;
  return outcome;
}

absl::Status TscOperations::Restore(const std::string& vm_id, const SavedTscs& before,
                                    const SavedTscs& after) {
  auto lease = registry_.Lease(vm_id);
  if (!lease.ok()) return lease.status();
  auto read = lease->port().ReadAll(port::Hold::kNo);
  NoteRunState(lease->vm(), read.status());
  if (!read.ok()) return read.status();
  if (!SameOffsets(read->vcpus, after.vcpus) || SameOffsets(before.vcpus, after.vcpus))
    return absl::OkStatus();
  auto reference = timekeeper_.TakeReference();
  if (!reference.ok()) return reference.status();
  port::ApplyOrder order = {};
  order.target.host_tsc_ticks = reference->host_tsc_ticks;
  order.target.host_tsc_khz = reference->host_tsc_khz;
  order.target.flags = TSC_TARGET_WRITE_KVMCLOCK;
  if (host_.tsc.can_scale || before.vcpus.front().tsc_khz != host_.tsc.host_khz)
    order.target.flags |= TSC_TARGET_WRITE_KHZ;
  order.target.kvmclock_ns = KvmClockAt(before.kvmclock, *reference).kvmclock_ns;
  order.target.realtime_ns = static_cast<uint64_t>(reference->realtime_ns);
  order.vcpus = before.vcpus;
  const registry::WriteNote note(lease->vm());
  auto applied = lease->port().WriteAll(order, port::Hold::kNo);
  NoteRunState(lease->vm(), applied.status());
  return applied.status();
}

}  // namespace tsc_handoff::handoff
