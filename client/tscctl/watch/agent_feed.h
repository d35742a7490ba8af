// AgentFeed: follows one agent, and tells an AgentObserver what it hears: by asking again and
// again, and by WatchHandoffs, which tells each change of a handoff at once. An agent that is away
// is asked on; a stream that ended is begun anew, after a growing pause.
//
// Threading: two threads of its own, which call the observer; it must be able to take that.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_AGENT_FEED_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_AGENT_FEED_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/lib/agent_client.h"
#include "client/tscctl/watch/steady.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// What an agent said when it was asked.
struct AgentPoll {
  tschandoff::v1::HostInfo host;
  // Empty unless asked for.
  std::vector<tschandoff::v1::Vm> vms = {};
  // Those pending, or, with `all_handoffs`, those that have ended, too.
  std::vector<tschandoff::v1::Handoff> handoffs = {};
  bool all_handoffs = false;
  // Before the first question, and after the last answer.
  SteadyTime asked = {};
  SteadyTime answered = {};
  // The wall clock of this machine when `host` was answered.
  absl::Time host_answered_at = {};
};

class AgentObserver {
 public:
  virtual ~AgentObserver() = default;
  // `agent` is the feed's number. An error means that the agent does not answer as it should.
  virtual void OnPoll(size_t agent, const absl::StatusOr<AgentPoll>& poll) = 0;
  virtual void OnHandoff(size_t agent, const tschandoff::v1::WatchHandoffsResponse& change) = 0;
};

struct FeedOptions {
  // Between two rounds of questions.
  absl::Duration interval = absl::Seconds(1);
  // Ask for the VMs.
  bool vms = true;
  // At the start, and after a gap in the stream, ask once for all handoffs, since some may have
  // ended in it.
  bool catch_up = false;
  // Only this VM's handoffs; empty for all.
  std::string vm_id = {};
};

class AgentFeed {
 public:
  // Begins at once. `observer` outlives it.
  AgentFeed(size_t agent, std::unique_ptr<client::AgentClient> client, FeedOptions options,
            AgentObserver& observer);
  // Ends what is under way; nothing is told any more afterwards.
  ~AgentFeed();
  AgentFeed(const AgentFeed&) = delete;
  AgentFeed& operator=(const AgentFeed&) = delete;

 private:
  void Ask();
  void Listen();
  absl::StatusOr<AgentPoll> AskOnce(bool all_handoffs);
  // Reads one stream to its end; true if it told something.
  bool ListenOnce(bool again);
  // False when this ends. Ends early when `*woken` becomes true, and makes it false again.
  bool Wait(absl::Duration duration, bool* woken);
  void Wake(bool* woken);

  const size_t agent_;
  const std::unique_ptr<client::AgentClient> client_;
  const FeedOptions options_;
  AgentObserver& observer_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;                    // guarded by mutex_
  bool ask_now_ = false;                     // guarded by mutex_
  bool listen_now_ = false;                  // guarded by mutex_
  bool gap_ = false;                         // guarded by mutex_; not caught up with
  client::HandoffStream* stream_ = nullptr;  // guarded by mutex_; the one that is read

  std::thread asking_;
  std::thread listening_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_AGENT_FEED_H_
