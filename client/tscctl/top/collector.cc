#include "client/tscctl/top/collector.h"

#include <utility>

#include "client/tscctl/top/text.h"

namespace tsc_handoff::tscctl {
namespace {

// A simulated host's clock shows a time of its own, while its agent begins handoffs by the clock of
// this machine.
int64_t AheadNs(const AgentPoll& poll) {
  const int64_t realtime_ns = poll.host.clock().realtime_ns();
  if (poll.host.simulated() || realtime_ns == 0) return 0;
  return realtime_ns - absl::ToUnixNanos(poll.host_answered_at);
}

}  // namespace

Collector::Collector(const std::vector<std::string>& addresses, std::function<SteadyTime()> now)
    : now_(std::move(now)), handoffs_(addresses.size()) {
  for (const std::string& address : addresses) agents_.push_back({.address = address});
}

void Collector::OnPoll(size_t agent, const absl::StatusOr<AgentPoll>& poll) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    AgentView& view = agents_[agent];
    if (poll.ok()) {
      view.error.clear();
      view.answered = poll->answered;
      view.host = poll->host;
      view.ahead_ns = AheadNs(*poll);
      view.vms = poll->vms;
      handoffs_[agent].NotePending(poll->handoffs, poll->asked, poll->answered);
    } else {
      view.error = AsciiText(poll.status().message());
      if (view.error.empty()) view.error = "no answer";
    }
  }
  wakeup_.Wake();
}

void Collector::OnHandoff(size_t agent, const tschandoff::v1::WatchHandoffsResponse& change) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    handoffs_[agent].Note(change.handoff(), now_());
  }
  wakeup_.Wake();
}

Snapshot Collector::Take() {
  wakeup_.Clear();
  const std::lock_guard<std::mutex> lock(mutex_);
  Snapshot snapshot{.agents = agents_};
  for (size_t i = 0; i < snapshot.agents.size(); ++i)
    snapshot.agents[i].handoffs = handoffs_[i].Show(now_());
  return snapshot;
}

}  // namespace tsc_handoff::tscctl
