// `tscctl watch`: prints what happens at agents, a line for each event, until it is interrupted or
// nobody reads any more.
//
// Threading: one call at a time for each process, because it takes over SIGINT and SIGTERM.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_WATCH_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_WATCH_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// Ends well at SIGINT, SIGTERM, and when `io.out` or what stands behind it was closed.
Result RunWatch(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_WATCH_H_
