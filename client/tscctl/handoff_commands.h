// `tscctl handoff`, `resume`, `abort` and `handoffs`.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_HANDOFF_COMMANDS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_HANDOFF_COMMANDS_H_

#include <string>

#include "absl/status/status.h"
#include "client/lib/agent_client.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"

namespace tsc_handoff::tscctl {

// The command that `options` names: handoff, resume or abort.
Result RunHandoff(const Options& options, Io& io);

Result RunHandoffs(const Options& options, client::AgentClient& agent, Io& io);

// What to do about the probe with this program's options, which the agent does not know; empty
// where the failure is about something else.
std::string ProbeAdvice(const absl::Status& status, const Options& options);

// "tscctl resume ID --from A --to B".
std::string ResumeCommand(const std::string& handoff_id, const std::string& from,
                          const std::string& to);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_HANDOFF_COMMANDS_H_
