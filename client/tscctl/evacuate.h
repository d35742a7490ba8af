// `tscctl evacuate`: all VMs of a host, several at a time.
//
// Threading: functions without shared state, but for SIGINT's handler while it runs.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_EVACUATE_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_EVACUATE_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

Result RunEvacuate(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_EVACUATE_H_
