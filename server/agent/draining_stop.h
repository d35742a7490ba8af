// How an agent's process comes to its end at a signal: open handoffs end first, as far as they do.
//
// Threading: of one thread, with `signals` blocked in all.
#ifndef TSC_HANDOFF_SERVER_AGENT_DRAINING_STOP_H_
#define TSC_HANDOFF_SERVER_AGENT_DRAINING_STOP_H_

#include <signal.h>

#include "absl/time/time.h"
#include "server/agent/agent.h"

namespace tsc_handoff::agent {

// The next of `signals`, or 0 when none comes for `patience`.
int NextSignal(const sigset_t& signals, absl::Duration patience);

// From now on no handoff begins. Lets those that are open come to their end, for at most `limit` or
// until another SIGTERM or SIGINT of `signals` comes, and stops the agent; calls in progress get
// some seconds more.
void DrainAndStop(const sigset_t& signals, Agent& agent, absl::Duration limit);

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_DRAINING_STOP_H_
