// How the settings of the command line come into effect in an agent's process, beside those that
// the agent itself is started with.
//
// Threading: ApplyChanges and ReloadAll may be called from any thread, ConfineAsWanted once.
#ifndef TSC_HANDOFF_SERVER_AGENT_PROCESS_SETTINGS_H_
#define TSC_HANDOFF_SERVER_AGENT_PROCESS_SETTINGS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/agent/agent.h"
#include "server/agent/options.h"
#include "server/agent/reconfiguration.h"
#include "server/service/reload.h"

namespace tsc_handoff::agent {

// Gives a running agent the settings that may change; see MayChange.
void ApplyChanges(const CommandLine& now, Agent& agent);

// Certificates, the policy and the configuration file are read again, and the audit's file is
// opened anew. `agent` is null before it runs. Errors: kConfigInvalid.
absl::StatusOr<service::Reloaded> ReloadAll(Agent* agent, const CommandLine& command_line,
                                            Reconfiguration& configuration);

// No rights are kept that only the start needed: --seccomp. Errors (without a Reason): the
// kernel's.
absl::Status ConfineAsWanted(const CommandLine& command_line);

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_PROCESS_SETTINGS_H_
