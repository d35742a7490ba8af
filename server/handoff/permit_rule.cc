#include "server/handoff/permit_rule.h"

#include "absl/strings/str_cat.h"
#include "server/handoff/handoff_machine.h"

namespace tsc_handoff::handoff {
namespace {

using journal::Standing;

std::string WhyNot(const VmFacts& vm) {
  const journal::VmRecord& record = vm.record;
  if (vm.occupied_by != nullptr) {
    return absl::StrCat("it is in handoff ", vm.occupied_by->ticket.handoff_id, " (",
                        NameOf(vm.occupied_by->state),
                        "), which must be finished or aborted first");
  }
  switch (record.standing) {
    case Standing::kUnknown:
      return vm.awaits_handoff ? "it awaits a handoff, and none has arrived" : "";
    case Standing::kOwned:
      if (!vm.awaits_handoff || vm.vmm_instance == record.vmm_instance) return "";
      return absl::StrCat("it awaits a handoff, and handoff ", record.handoff_id,
                          " arrived at an earlier VMM of this VM");
    case Standing::kReleased:
      return absl::StrCat("it was released to another host by handoff ", record.handoff_id);
    case Standing::kAwaited:
      return absl::StrCat("handoff ", record.handoff_id, " was to bring it, and has not");
    case Standing::kReclaimed:
      if (!vm.awaits_handoff || vm.vmm_instance == record.vmm_instance) return "";
      return "it awaits a handoff, and none has arrived since it was reclaimed";
    case Standing::kDisowned:
      return absl::StrCat("it was disowned after handoff ", record.handoff_id,
                          ": an operator has said that it left this host");
  }
  return "its standing is not known";
}

}  // namespace

port::Permit PermitFor(const VmFacts& vm) {
  port::Permit permit;
  permit.reason = WhyNot(vm);
  permit.granted = permit.reason.empty();
  permit.epoch = vm.record.highest_epoch;
  return permit;
}

}  // namespace tsc_handoff::handoff
