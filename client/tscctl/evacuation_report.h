// What an evacuation says at its end.
//
// Threading: pure but for the output.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_REPORT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_REPORT_H_

#include "client/tscctl/evacuation_progress.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// A table of what did not move, why, and how many did; or all of it as JSON.
void PrintEvacuation(const Options& options, const EvacuationProgress& progress, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_EVACUATION_REPORT_H_
