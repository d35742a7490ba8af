// drain, undrain, reload: what an operator has an agent do.
//
// Threading: functions without shared state. RunDrain waits.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_ADMIN_COMMANDS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_ADMIN_COMMANDS_H_

#include "client/lib/agent_client.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// Has the agent begin no handoff, and waits until those that are open have come to their end.
Result RunDrain(const Options& options, client::AgentClient& agent, Io& io);
Result RunUndrain(const Options& options, client::AgentClient& agent, Io& io);
Result RunReload(client::AgentClient& agent, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_ADMIN_COMMANDS_H_
