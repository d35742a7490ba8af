#include "client/tscctl/top/details.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/tscctl/format.h"
#include "client/tscctl/names.h"
#include "client/tscctl/top/text.h"
#include "client/tscctl/watch/events.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

void Add(Details* details, std::string name, std::string value, Look look = Look::kPlain) {
  details->lines.push_back({std::move(name), std::move(value), look});
}

// "yes", or "no: REASON" as an alarm.
void AddGood(Details* details, std::string name, bool good, const std::string& reason) {
  if (good) return Add(details, std::move(name), "yes", Look::kGood);
  Add(details, std::move(name), reason.empty() ? "no" : "no: " + AsciiText(reason), Look::kBad);
}

std::string TimeOrNone(int64_t realtime_ns) {
  return realtime_ns <= 0 ? "not known" : HumanTime(static_cast<uint64_t>(realtime_ns));
}

void AddGone(Details* details) { Add(details, "", "It is not there any more.", Look::kWarning); }

void AddAway(const AgentView& agent, Details* details) {
  if (agent.error.empty()) return;
  Add(details, "agent", "does not answer: " + agent.error, Look::kBad);
  Add(details, "", "What follows is what it said last.", Look::kDim);
}

void AddClock(const v1::ClockInfo& clock, Details* details) {
  AddGood(details, "clock trusted", clock.trusted(), clock.untrusted_reason());
  Add(details, "clock status", ClockStatusName(clock.status()),
      clock.status() == v1::ClockInfo::STATUS_SYNCHRONISED ? Look::kGood : Look::kWarning);
  Add(details, "error bound", clock.trusted() ? PlusMinus(clock.error_bound_ns()) : "none");
  Add(details, "bound stated",
      clock.age_ns() == 0 && !clock.trusted() ? "never" : HumanUnsignedNs(clock.age_ns()) + " ago");
  Add(details, "clock source", clock.source().empty() ? "none" : AsciiText(clock.source()));
  Add(details, "TAI offset",
      clock.tai_offset_s() == 0 ? "not known" : absl::StrCat(clock.tai_offset_s(), " s"));
  if (clock.leap_second()) Add(details, "leap second", "near", Look::kWarning);
}

// What a person types to go on, or nothing where an end is not among the agents asked.
void AddCommands(const Snapshot& snapshot, const AgentView& agent, const v1::Handoff& handoff,
                 Details* details) {
  if (!IsPending(handoff.state())) return;
  const bool source = handoff.side() == v1::Handoff::SIDE_SOURCE;
  const AgentView* peer = FindAgent(snapshot, source ? handoff.ticket().destination_agent_id()
                                                     : handoff.ticket().source_agent_id());
  const std::string other = peer != nullptr ? AsciiText(peer->address)
                            : source        ? "DESTINATION"
                                            : "SOURCE";
  const std::string mine = AsciiText(agent.address);
  const std::string ends = absl::StrCat(AsciiText(handoff.handoff_id()), " --from ",
                                        source ? mine : other, " --to ", source ? other : mine);
  Add(details, "", "");
  Add(details, "", "To finish it, or to abort it while its source has not released the VM:");
  Add(details, "", "tscctl resume " + ends, Look::kBold);
  Add(details, "", "tscctl abort " + ends, Look::kBold);
  if (peer == nullptr) {
    Add(details, "", "The other end is no agent named here; give its address yourself.",
        Look::kDim);
  }
}

void AddObservation(const v1::TscObservation& seen, Details* details) {
  Add(details, "phase spread", absl::StrCat(Thousands(seen.phase_spread_ticks()), " ticks"));
  Add(details, "master clock",
      seen.offsets_equal() ? "possible: all vCPUs have one offset"
                           : "off: its vCPUs' offsets differ",
      seen.offsets_equal() ? Look::kPlain : Look::kWarning);
  Add(details, "TSC scaled", seen.scaled() ? "yes" : "no");
  Add(details, "changed on its own", absl::StrCat(seen.changed_on_its_own(), " times"),
      seen.changed_on_its_own() == 0 ? Look::kPlain : Look::kWarning);
  Add(details, "observed", TimeOrNone(seen.observed_at_ns()));
}

const v1::Vm* FindVm(const AgentView& agent, const std::string& vm_id) {
  for (const v1::Vm& vm : agent.vms) {
    if (vm.vm_id() == vm_id) return &vm;
  }
  return nullptr;
}

const v1::Handoff* FindHandoff(const AgentView& agent, const RowId& id) {
  for (const v1::Handoff& handoff : agent.handoffs) {
    if (handoff.handoff_id() == id.name && handoff.side() == id.side) return &handoff;
  }
  return nullptr;
}

}  // namespace

Details HostDetails(const Snapshot& snapshot, const RowId& id, const Moment& now) {
  const AgentView& agent = snapshot.agents[id.agent];
  const v1::HostInfo& host = agent.host;
  Details details{.title = "Host " + NameOf(agent), .lines = {}};
  Add(&details, "address", AsciiText(agent.address));
  if (!agent.answered.has_value()) {
    Add(&details, "agent", agent.error.empty() ? "connecting" : "never answered: " + agent.error,
        agent.error.empty() ? Look::kPlain : Look::kBad);
    return details;
  }
  if (!agent.error.empty()) {
    const auto since_ns = static_cast<uint64_t>(NsBetween(*agent.answered, now.steady));
    Add(&details, "last seen", ShortNs(since_ns) + " ago", Look::kBad);
  }
  AddAway(agent, &details);
  AddClock(host.clock(), &details);
  AddGood(&details, "TSC stable", host.tsc_stable(), host.tsc_unstable_reason());
  AddGood(&details, "KVM available", host.kvm_available(), host.kvm_unavailable_reason());
  AddGood(&details, "journal", host.journal_unavailable_reason().empty(),
          host.journal_unavailable_reason());
  Add(&details, "TSC frequency",
      host.tsc_khz() == 0 ? "not known" : Thousands(host.tsc_khz()) + " kHz");
  Add(&details, "TSC scaling",
      host.tsc_scaling() ? absl::StrCat("yes, ", host.tsc_scaling_frac_bits(), " fraction bits")
                         : "no: guests must have this host's frequency");
  Add(&details, "VMs", Thousands(host.vm_count()));
  Add(&details, "peer address",
      host.peer_address().empty() ? "none: no other agent can be told where to probe this clock"
                                  : AsciiText(host.peer_address()));
  Add(&details, "kernel", AsciiText(host.kernel_release()));
  Add(&details, "agent version", AsciiText(host.agent_version()));
  Add(&details, "agent id", Hex(host.agent_id()));
  Add(&details, "boot id", Hex(host.boot_id()));
  if (host.simulated()) Add(&details, "simulated", "yes: nothing here is real", Look::kWarning);
  return details;
}

Details VmDetails(const Snapshot& snapshot, const RowId& id) {
  const AgentView& agent = snapshot.agents[id.agent];
  Details details{.title = absl::StrCat("VM ", AsciiText(id.name), " on ", NameOf(agent)),
                  .lines = {}};
  AddAway(agent, &details);
  const v1::Vm* vm = FindVm(agent, id.name);
  if (vm == nullptr) {
    AddGone(&details);
    return details;
  }
  Add(&details, "state", RunStateName(vm->run_state()));
  AddGood(&details, "may run", vm->may_run(), vm->may_not_run_reason());
  Add(&details, "vCPUs", Thousands(vm->vcpu_count()));
  Add(&details, "port", PortName(vm->port()));
  if (!vm->unreachable_reason().empty())
    Add(&details, "unreachable", AsciiText(vm->unreachable_reason()), Look::kWarning);
  if (vm->has_observation()) AddObservation(vm->observation(), &details);
  Add(&details, "VMM process",
      vm->vmm_pid() == 0 ? "the agent's own"
                         : absl::StrCat(vm->vmm_pid(), ", user ", vm->vmm_uid()));
  Add(&details, "registered", TimeOrNone(vm->registered_at_ns()));
  Add(&details, "epoch", vm->epoch() == 0 ? "0: never handed off" : absl::StrCat(vm->epoch()));
  Add(&details, "last handoff", vm->handoff_id().empty() ? "none" : AsciiText(vm->handoff_id()));
  return details;
}

Details HandoffDetails(const Snapshot& snapshot, const RowId& id, const Moment& now) {
  const AgentView& agent = snapshot.agents[id.agent];
  Details details{
      .title = absl::StrCat("Handoff ", AsciiText(id.name), " as ", NameOf(agent), " knows it"),
      .lines = {}};
  AddAway(agent, &details);
  const v1::Handoff* handoff = FindHandoff(agent, id);
  if (handoff == nullptr) {
    AddGone(&details);
    return details;
  }
  if (handoff->undecided()) {
    Add(&details, "UNDECIDED", "nobody has asked about it for longer than the agent's limit",
        Look::kBad);
  }
  if (handoff->vm_lost()) {
    Add(&details, "VM lost", "the VM that the state was applied to is not there", Look::kBad);
  }
  Add(&details, "state", HandoffStateName(handoff->state()));
  Add(&details, "side", HandoffSideName(handoff->side()));
  Add(&details, "VM here", AsciiText(handoff->vm_id()));
  Add(&details, "VM at the destination", AsciiText(handoff->ticket().destination_vm_id()));
  Add(&details, "epoch", absl::StrCat(handoff->ticket().epoch()));
  const auto elapsed_ns = ElapsedNs(agent, *handoff, now);
  Add(&details, "elapsed", elapsed_ns.has_value() ? HumanUnsignedNs(*elapsed_ns) : "not known");
  if (IsPending(handoff->state()))
    Add(&details, "nobody asked for", HumanUnsignedNs(handoff->silent_ns()));
  Add(&details, "begun", TimeOrNone(handoff->begun_at_ns()));
  Add(&details, "changed", TimeOrNone(handoff->changed_at_ns()));
  Add(&details, "source's agent", Hex(handoff->ticket().source_agent_id()));
  Add(&details, "destination's agent", Hex(handoff->ticket().destination_agent_id()));
  AddCommands(snapshot, agent, *handoff, &details);
  return details;
}

}  // namespace tsc_handoff::tscctl
