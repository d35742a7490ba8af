// The part of tsc-agent's command line about how much callers and VMMs may take.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_AGENT_LIMIT_OPTIONS_H_
#define TSC_HANDOFF_SERVER_AGENT_LIMIT_OPTIONS_H_

#include "server/agent/serving_limits.h"

namespace CLI {
class App;
}

namespace tsc_handoff::agent {

// `out` outlives the parsing.
void AddLimitOptions(CLI::App& app, ServingLimits& out);

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_LIMIT_OPTIONS_H_
