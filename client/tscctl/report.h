// tscctl's tables of states and applies.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_REPORT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_REPORT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "client/lib/handoff.h"
#include "client/lib/state_view.h"
#include "client/tscctl/result.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

void PrintHost(const tschandoff::v1::HostInfo& host, Io& io);

// A state: vCPUs first, so that what sums it up stands last on the screen.
void PrintState(const client::StateView& state, size_t state_bytes, Io& io);

// An apply that was verified: per vCPU before and after, then what counts.
void PrintApply(const client::HandoffReport& report, Io& io);

// "warning (source): ..." for each, on stdout.
void PrintWarnings(absl::string_view side,
                   const google::protobuf::RepeatedPtrField<tschandoff::v1::Warning>& warnings,
                   Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_REPORT_H_
