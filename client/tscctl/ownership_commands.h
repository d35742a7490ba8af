// reclaim and disown: an operator's word on where a VM is, against what its handoffs say.
//
// Threading: pure but for the calls and the output.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_OWNERSHIP_COMMANDS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_OWNERSHIP_COMMANDS_H_

#include "client/lib/agent_client.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

Result RunReclaim(const Options& options, client::AgentClient& agent, Io& io);
Result RunDisown(const Options& options, client::AgentClient& agent, Io& io);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_OWNERSHIP_COMMANDS_H_
