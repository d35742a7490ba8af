#include "server/agent/draining_stop.h"

#include <cstddef>

#include "absl/time/clock.h"
#include "server/base/log.h"

namespace tsc_handoff::agent {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(5);
constexpr absl::Duration kDrainLook = absl::Milliseconds(50);

}  // namespace

int NextSignal(const sigset_t& signals, absl::Duration patience) {
  const timespec limit = absl::ToTimespec(patience);
  const int number = sigtimedwait(&signals, nullptr, &limit);
  return number > 0 ? number : 0;
}

void DrainAndStop(const sigset_t& signals, Agent& agent, absl::Duration limit) {
  const absl::Time give_up_at = absl::Now() + limit;
  agent.SetDraining(true);
  while (agent.open_handoffs() > 0 && absl::Now() < give_up_at) {
    const int number = NextSignal(signals, kDrainLook);
    if (number == SIGTERM || number == SIGINT) break;
  }
  if (const size_t open = agent.open_handoffs(); open > 0) {
    Log(LogLevel::kWarn,
        "stopping with open handoffs; they are in the journal, and go on at the next start",
        {{"open_handoffs", open}});
  }
  agent.Stop(kGrace);
}

}  // namespace tsc_handoff::agent
