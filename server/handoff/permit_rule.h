// Whether a VM may run on this host: the one rule behind every permit. Pure.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_PERMIT_RULE_H_
#define TSC_HANDOFF_SERVER_HANDOFF_PERMIT_RULE_H_

#include <string>

#include "server/journal/journal.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::handoff {

// What is known of a VM of this host.
struct VmFacts {
  journal::VmRecord record;                             // with kUnknown when there is none
  const journal::HandoffRecord* occupied_by = nullptr;  // the handoff that the VM is in
  bool awaits_handoff = false;                          // as its VMM says
  std::string vmm_instance;                             // of its VMM
};

// The permit with the reason why not, in words for an operator.
port::Permit PermitFor(const VmFacts& vm);

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_PERMIT_RULE_H_
