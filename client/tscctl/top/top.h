// `tscctl top`: hosts, handoffs and VMs of all agents on the whole screen, live.
//
// Threading: one call at a time for each process, because it takes over the terminal and signals.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_TOP_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_TOP_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// Ends well when a person quits or presses Ctrl-C. SIGTERM and SIGHUP end this process as they
// always do, once the terminal is as it was.
Result RunTop(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_TOP_H_
