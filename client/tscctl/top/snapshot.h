// What is known of all agents at one moment. Values, taken by Collector and shown by View.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_SNAPSHOT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_SNAPSHOT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/tscctl/watch/steady.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// Now, as this machine has it.
struct Moment {
  SteadyTime steady = {};
  absl::Time wall = {};
};

struct AgentView {
  std::string address;
  // Why it does not answer; empty while it does, and until it was first asked.
  std::string error = {};
  // Of the last answer; nothing when it never answered.
  std::optional<SteadyTime> answered = std::nullopt;
  tschandoff::v1::HostInfo host = {};
  // By how much its host's wall clock is ahead of this machine's, in ns.
  int64_t ahead_ns = 0;
  std::vector<tschandoff::v1::Vm> vms = {};
  // Those pending, and those that ended a little while ago.
  std::vector<tschandoff::v1::Handoff> handoffs = {};
};

struct Snapshot {
  std::vector<AgentView> agents;
};

// The host's name, or where it is not known the agent's address.
std::string NameOf(const AgentView& agent);

// The agent of that identity, where it is among those asked.
const AgentView* FindAgent(const Snapshot& snapshot, const std::string& agent_id);

// How long the handoff has been going on, or went on; nothing where clocks make no sense.
std::optional<uint64_t> ElapsedNs(const AgentView& agent, const tschandoff::v1::Handoff& handoff,
                                  const Moment& now);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_SNAPSHOT_H_
