#include "client/tscctl/watch/watch.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <deque>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/watch/agent_feed.h"
#include "client/tscctl/watch/event_text.h"
#include "client/tscctl/watch/events.h"
#include "client/tscctl/watch/signal_pipe.h"
#include "client/tscctl/watch/wakeup.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

// Collects events of all agents, in the order in which they were heard.
class EventQueue final : public AgentObserver {
 public:
  explicit EventQueue(const std::vector<std::string>& agents) {
    for (const std::string& agent : agents) trackers_.emplace_back(agent);
  }

  void OnPoll(size_t agent, const absl::StatusOr<AgentPoll>& poll) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    Add(trackers_[agent].OnPoll(poll, absl::Now()));
  }

  void OnHandoff(size_t agent, const v1::WatchHandoffsResponse& change) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    Add(trackers_[agent].OnHandoff(change, absl::Now()));
  }

  // Readable when there is something to take.
  int fd() const { return wakeup_.fd(); }

  std::vector<Event> Take() {
    wakeup_.Clear();
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  void Add(std::vector<Event> events) {
    if (events.empty()) return;
    for (Event& event : events) events_.push_back(std::move(event));
    wakeup_.Wake();
  }

  std::mutex mutex_;
  std::deque<EventTracker> trackers_;  // guarded by mutex_
  std::vector<Event> events_;          // guarded by mutex_
  Wakeup wakeup_;
};

// False when nobody reads any more.
bool Print(const std::vector<Event>& events, Io& io) {
  for (const Event& event : events) {
    io.out << (io.json ? EventAsJson(event) : EventAsText(event, io.out_palette)) << "\n";
    io.out.flush();
    if (!io.out.good()) return false;
  }
  return true;
}

// False when nobody reads any more.
bool PrintUntilTheEnd(EventQueue& queue, SignalPipe& signals, Io& io) {
  // Whatever it is asked for, poll tells an error of stdout: that its reader has gone.
  pollfd waits[] = {{.fd = queue.fd(), .events = POLLIN, .revents = 0},
                    {.fd = signals.fd(), .events = POLLIN, .revents = 0},
                    {.fd = io.out_fd, .events = 0, .revents = 0}};
  while (true) {
    for (pollfd& wait : waits) wait.revents = 0;
    if (poll(waits, std::size(waits), /*timeout=*/-1) < 0) continue;
    if (!Print(queue.Take(), io) || (waits[2].revents & (POLLERR | POLLHUP)) != 0) return false;
    if (signals.Take().has_value()) return true;
  }
}

// That its reader has gone is how a watch may end, and no failure: what the stream still holds goes
// nowhere.
void LeaveUnwritten(Io& io) {
  if (const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC); nowhere >= 0) {
    if (io.out_fd >= 0) dup2(nowhere, io.out_fd);
    close(nowhere);
  }
  io.out.clear();
}

}  // namespace

Result RunWatch(const Options& options, Io& io) {
  SignalPipe signals({SIGINT, SIGTERM});
  EventQueue queue(options.agents);
  FeedOptions feed_options;
  feed_options.interval = options.interval;
  feed_options.vms = false;
  feed_options.catch_up = true;
  feed_options.vm_id = options.vm;
  std::vector<std::unique_ptr<AgentFeed>> feeds;
  for (size_t i = 0; i < options.agents.size(); ++i) {
    auto agent = ConnectTo(options.agents[i], options);
    if (!agent.ok()) return UsageFailure(agent.status().message(), "tscctl watch --help");
    feeds.push_back(std::make_unique<AgentFeed>(i, *std::move(agent), feed_options, queue));
  }
  // A closed pipe is an error of the stream, not the end of this process.
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  const bool has_reader = PrintUntilTheEnd(queue, signals, io);
  if (!has_reader) LeaveUnwritten(io);
  std::signal(SIGPIPE, before);
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
