// tscctl contexts, use-context.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CONTEXT_COMMANDS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CONTEXT_COMMANDS_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

Result RunContexts(const Options& options, Io& io);
Result RunUseContext(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CONTEXT_COMMANDS_H_
