// tscctl's table of VMs.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_VM_REPORT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_VM_REPORT_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "client/tscctl/result.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// One line for each VM; below the table, for those that need it, a sentence on why something is not
// possible, or what is odd about their TSCs.
void PrintVms(const std::vector<tschandoff::v1::Vm>& vms, absl::string_view agent, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_VM_REPORT_H_
