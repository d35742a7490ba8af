// `tscctl clock`: one agent's clock, or two agents' clocks compared.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_COMMAND_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_COMMAND_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// Prints what was found even where that is a failure: clocks that do not agree.
Result RunClock(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_COMMAND_H_
