#include "server/handoff/permits.h"

#include <utility>

#include "server/handoff/permit_rule.h"

namespace tsc_handoff::handoff {
namespace {

VmFacts FactsOf(const registry::RegisteredVm& vm, const HandoffTable& table,
                const journal::HandoffRecord* occupied_by) {
  const registry::VmIdentity& identity = vm.identity();
  return {table.FindVm(identity.vm_id), occupied_by, identity.awaits_handoff,
          identity.vmm_instance};
}

}  // namespace

VmStanding Permits::StandingOf(const registry::RegisteredVm& vm) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return StandingOfLocked(vm);
}

port::Permit Permits::OutsideOfHandoffs(const registry::RegisteredVm& vm) const {
  return PermitFor(FactsOf(vm, table_, nullptr));
}

VmStanding Permits::StandingOfLocked(const registry::RegisteredVm& vm) const {
  const std::string& vm_id = vm.identity().vm_id;
  const HandoffTable::RecordPtr occupant = table_.OccupantOf(vm_id);
  const VmFacts facts = FactsOf(vm, table_, occupant.get());
  VmStanding standing{PermitFor(facts),
                      occupant != nullptr ? occupant->ticket.handoff_id : facts.record.handoff_id};
  if (!standing.permit.granted) return standing;
  if (held_.count(vm_id) > 0) {
    standing.permit.reason = "a handoff is about to begin";
  } else {
    // Without its journal the agent does not know which VMs have left.
    standing.permit.reason = journal_.unavailable_reason();
  }
  standing.permit.granted = standing.permit.reason.empty();
  return standing;
}

void Permits::Send(registry::RegisteredVm& vm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SendLocked(vm);
}

void Permits::Send(const std::string& vm_id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto vm = registry_.Find(vm_id); vm.ok()) SendLocked(**vm);
}

void Permits::SendLocked(registry::RegisteredVm& vm) {
  // Such a VM goes on with the permit that it has: it was given by an agent that knew.
  if (vm.identity().running_at_registration && !journal_.unavailable_reason().empty()) return;
  vm.SendPermit(StandingOfLocked(vm).permit);
}

Permits::Hold::Hold(Permits& permits, std::string vm_id)
    : permits_(permits), vm_id_(std::move(vm_id)) {
  const std::lock_guard<std::mutex> lock(permits_.mutex_);
  permits_.held_.insert(vm_id_);
}

Permits::Hold::~Hold() {
  const std::lock_guard<std::mutex> lock(permits_.mutex_);
  if (!for_good_) permits_.held_.erase(vm_id_);
}

void Permits::LookForViolations() {
  std::set<std::string> running;
  for (const auto& vm : registry_.List("", registry_.size())) {
    const std::string& vm_id = vm->identity().vm_id;
    const port::Permit permit = StandingOf(*vm).permit;
    if (permit.granted) continue;
    const auto lease = registry::VmLease::Glance(vm);
    if (!lease.held()) {
      // Not seen this time: one that ran is taken to run on, or it would be reported again.
      if (violators_.count(vm_id) > 0) running.insert(vm_id);
      continue;
    }
    const auto paused = lease.port().IsPaused();
    if (!paused.ok() || *paused) continue;
    if (StandingOf(*vm).permit.granted) continue;  // and was, when it was asked
    vm->set_run_state(registry::RunState::kRunning);
    running.insert(vm_id);
    if (violators_.count(vm_id) == 0 && on_violation_) on_violation_(vm_id, permit);
  }
  violators_ = std::move(running);
}

}  // namespace tsc_handoff::handoff
