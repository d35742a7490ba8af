// HandoffController: what an operator says of a VM's place against its handoffs.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/handoff/handoff_controller.h"

namespace tsc_handoff::handoff {

using journal::Change;
using journal::Side;
using journal::VmRecord;

HandoffController::RecordPtr HandoffController::PendingOf(const std::string& vm_id) const {
  for (const TableEntry& entry : table_.ListOpen()) {
    if (entry.record->vm_id == vm_id && IsPending(entry.record->state)) return entry.record;
  }
  return nullptr;
}

absl::StatusOr<ClaimOutcome> HandoffController::SettleClaim(const ClaimCall& call) {
  if (absl::Status status = CheckJournal(); !status.ok()) return status;
  const auto handoff = claims_.TryHandoff(call.handoff_id);
  const auto claimed = claims_.TryVm(call.vm_id);
  if (!handoff.held() || !claimed.held()) {
    return Error(Reason::kVmBusy, absl::StrCat("another call works on VM ", call.vm_id,
                                               " or handoff ", call.handoff_id));
  }
  const auto vm = FindVm(call.vm_id);
  const RecordPtr pending = PendingOf(call.vm_id);
  VmRecord record = table_.FindVm(call.vm_id);
  const Ruling ruling = RuleOn(call.claim, {record, pending.get(), vm != nullptr, call.handoff_id});
  if (ruling.verdict == Verdict::kRefuse) {
    return Error(
        ruling.reason, ruling.why,
        {{"vm_id", call.vm_id},
         {"handoff_id", pending != nullptr ? pending->ticket.handoff_id : record.handoff_id},
         {"epoch", absl::StrCat(record.highest_epoch)}});
  }
  if (ruling.verdict == Verdict::kRepeat) return ClaimOutcome{record.highest_epoch, true};
  Change change{std::nullopt, std::nullopt};
  if (call.claim == Claim::kReclaim) {
    // What an aborted handoff has left in the VM is not to be undone later, when it runs.
    if (absl::Status status = SettleEarlier(call.vm_id); !status.ok()) return status;
    // Above all that is known, so that no destination takes a later handoff for an old one.
    record.highest_epoch = std::max(record.highest_epoch, call.epoch_above) + 1;
    record.vmm_instance = vm->identity().vmm_instance;
    // The release's proof is told no more; the abort's is, for a destination that never arrived.
    if (const RecordPtr source = table_.Find(call.handoff_id, Side::kSource); source != nullptr) {
      const Step step = Next(Side::kSource, source->state, Event::kReclaim);
      if (step.verdict == Verdict::kGo) change.handoff = Moved(*source, step.next);
    }
  }
  if (absl::Status status = CheckCancelled(call.cancelled); !status.ok()) return status;
  record.standing = ruling.next;
  change.vm = record;
  if (absl::Status status = Write(change, Event::kReclaim); !status.ok()) return status;
  permits_.Send(call.vm_id);
  return ClaimOutcome{record.highest_epoch, false};
}

}  // namespace tsc_handoff::handoff
