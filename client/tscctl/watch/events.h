// What `tscctl watch` tells: what is new in what agents say, as events.
//
// Threading: pure; one EventTracker belongs to one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_EVENTS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_EVENTS_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/tscctl/watch/agent_feed.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

struct Event {
  enum class Kind {
    // The agent answers: for the first time, or again.
    kAgentFound,
    // It does not answer any more, or did not from the start.
    kAgentLost,
    // Its host's clock has another status, or is trusted now or not any more.
    kClock,
    // A handoff is in another state on this agent's side.
    kHandoff,
    // Nobody has gone on with a handoff for so long that somebody must.
    kUndecided,
  };
  Kind kind = Kind::kHandoff;
  // When this machine heard of it.
  absl::Time at = {};
  // The agent's address, and its host's name where it is known.
  std::string agent = {};
  std::string host = {};
  // It was so when the watch began, or when the agent was found again.
  bool initial = false;
  // kAgentFound, kClock.
  tschandoff::v1::HostInfo info = {};
  // kAgentLost: why.
  absl::Status error = {};
  // kHandoff, kUndecided.
  tschandoff::v1::Handoff handoff = {};
  // kHandoff: the state that was told before; unspecified when none was.
  tschandoff::v1::Handoff::State before = tschandoff::v1::Handoff::STATE_UNSPECIFIED;
};

bool IsPending(tschandoff::v1::Handoff::State state);

// Finds the events in what one agent says.
class EventTracker {
 public:
  explicit EventTracker(std::string agent) : agent_(std::move(agent)) {}

  std::vector<Event> OnPoll(const absl::StatusOr<AgentPoll>& poll, absl::Time now);
  std::vector<Event> OnHandoff(const tschandoff::v1::WatchHandoffsResponse& change, absl::Time now);

 private:
  using Key = std::pair<std::string, tschandoff::v1::Handoff::Side>;
  struct Known {
    tschandoff::v1::Handoff handoff;
    bool undecided_told = false;
  };

  Event Make(Event::Kind kind, absl::Time now) const;
  void AddListed(const AgentPoll& poll, absl::Time now, std::vector<Event>* events);
  void AddPending(const tschandoff::v1::Handoff& handoff, bool initial, absl::Time now,
                  std::vector<Event>* events);
  void AddHandoff(const tschandoff::v1::Handoff& handoff, bool initial, absl::Time now,
                  std::vector<Event>* events);
  void AddClock(const tschandoff::v1::HostInfo& host, bool initial, absl::Time now,
                std::vector<Event>* events);

  const std::string agent_;
  std::string host_;
  bool asked_ = false;
  bool answers_ = false;
  bool listed_ = false;
  bool clock_told_ = false;
  tschandoff::v1::ClockInfo clock_;
  // Those pending, as they were told; and those that ended at the latest instant of a change, so
  // that what is listed again is not told again.
  std::map<Key, Known> pending_;
  std::set<Key> ended_last_;
  int64_t latest_change_ns_ = 0;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_EVENTS_H_
