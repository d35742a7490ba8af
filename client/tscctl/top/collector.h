// Collector: keeps what agents say, for whoever looks at it.
//
// Threading: thread-safe; it is told by the feeds' threads, and read by another.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_COLLECTOR_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_COLLECTOR_H_

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "client/tscctl/top/handoff_book.h"
#include "client/tscctl/top/snapshot.h"
#include "client/tscctl/watch/agent_feed.h"
#include "client/tscctl/watch/wakeup.h"

namespace tsc_handoff::tscctl {

class Collector final : public AgentObserver {
 public:
  explicit Collector(const std::vector<std::string>& addresses,
                     std::function<SteadyTime()> now = SteadyNow);

  void OnPoll(size_t agent, const absl::StatusOr<AgentPoll>& poll) override;
  void OnHandoff(size_t agent, const tschandoff::v1::WatchHandoffsResponse& change) override;

  // Readable when there is something new since the last Take().
  int fd() const { return wakeup_.fd(); }
  Snapshot Take();

 private:
  const std::function<SteadyTime()> now_;
  std::mutex mutex_;
  std::vector<AgentView> agents_;      // guarded by mutex_; without their handoffs
  std::vector<HandoffBook> handoffs_;  // guarded by mutex_; one for each agent
  Wakeup wakeup_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_COLLECTOR_H_
