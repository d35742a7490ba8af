// tscctl's commands: each does its work, prints what it found on success, and returns what failed
// otherwise.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_COMMANDS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_COMMANDS_H_

#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// The command that `options` names.
Result RunCommand(const Options& options, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_COMMANDS_H_
