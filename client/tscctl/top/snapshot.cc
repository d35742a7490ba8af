#include "client/tscctl/top/snapshot.h"

#include "client/tscctl/top/text.h"
#include "client/tscctl/watch/events.h"

namespace tsc_handoff::tscctl {

namespace v1 = ::tschandoff::v1;

std::string NameOf(const AgentView& agent) {
  return AsciiText(agent.host.host_name().empty() ? agent.address : agent.host.host_name());
}

const AgentView* FindAgent(const Snapshot& snapshot, const std::string& agent_id) {
  if (agent_id.empty()) return nullptr;
  for (const AgentView& agent : snapshot.agents) {
    if (agent.host.agent_id() == agent_id) return &agent;
  }
  return nullptr;
}

std::optional<uint64_t> ElapsedNs(const AgentView& agent, const v1::Handoff& handoff,
                                  const Moment& now) {
  // What has ended is told by one clock alone.
  const int64_t until_ns = IsPending(handoff.state()) ? absl::ToUnixNanos(now.wall) + agent.ahead_ns
                                                      : handoff.changed_at_ns();
  if (handoff.begun_at_ns() <= 0 || until_ns < handoff.begun_at_ns()) return std::nullopt;
  return static_cast<uint64_t>(until_ns - handoff.begun_at_ns());
}

}  // namespace tsc_handoff::tscctl
