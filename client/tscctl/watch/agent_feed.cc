#include "client/tscctl/watch/agent_feed.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

// Between two attempts to watch; doubles as long as they bring nothing.
constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(5);

}  // namespace

AgentFeed::AgentFeed(size_t agent, std::unique_ptr<client::AgentClient> client, FeedOptions options,
                     AgentObserver& observer)
    : agent_(agent),
      client_(std::move(client)),
      options_(std::move(options)),
      observer_(observer),
      gap_(true),
      asking_([this] { Ask(); }),
      listening_([this] { Listen(); }) {}

AgentFeed::~AgentFeed() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  client_->Stop();
  asking_.join();
  listening_.join();
}

void AgentFeed::Ask() {
  bool answered = false;
  do {
    bool all = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      all = std::exchange(gap_, false) && options_.catch_up;
    }
    const absl::StatusOr<AgentPoll> poll = AskOnce(all);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
      if (!poll.ok()) {
        gap_ = gap_ || all;
        // A connection that is dead at the other end only would be read for ever.
        if (stream_ != nullptr) stream_->Cancel();
      }
    }
    observer_.OnPoll(agent_, poll);
    if (poll.ok() && !answered) Wake(&listen_now_);
    answered = poll.ok();
  } while (Wait(options_.interval, &ask_now_));
}

absl::StatusOr<AgentPoll> AgentFeed::AskOnce(bool all_handoffs) {
  AgentPoll poll;
  poll.all_handoffs = all_handoffs;
  poll.asked = SteadyNow();
  absl::StatusOr<v1::HostInfo> host = client_->GetHostInfo();
  if (!host.ok()) return host.status();
  poll.host = *std::move(host);
  poll.host_answered_at = absl::Now();
  if (options_.vms) {
    absl::StatusOr<std::vector<v1::Vm>> vms = client_->ListVms();
    if (!vms.ok()) return vms.status();
    poll.vms = *std::move(vms);
  }
  client::AgentClient::HandoffFilter filter;
  filter.vm_id = options_.vm_id;
  filter.pending_only = !all_handoffs;
  absl::StatusOr<std::vector<v1::Handoff>> handoffs = client_->ListHandoffs(filter);
  if (!handoffs.ok()) return handoffs.status();
  poll.handoffs = *std::move(handoffs);
  poll.answered = SteadyNow();
  return poll;
}

void AgentFeed::Listen() {
  absl::Duration pause = kFirstPause;
  bool again = false;
  do {
    const bool told = ListenOnce(again);
    again = true;
    pause = told ? kFirstPause : std::min(2 * pause, kLongestPause);
    // Most streams end because their agent does: that is known the sooner.
    Wake(&ask_now_);
  } while (Wait(pause, &listen_now_));
}

bool AgentFeed::ListenOnce(bool again) {
  const std::unique_ptr<client::HandoffStream> stream = client_->WatchHandoffs(options_.vm_id);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stream_ = stream.get();
    gap_ = gap_ || again;
  }
  bool told = false;
  v1::WatchHandoffsResponse change;
  while (stream->Next(&change)) {
    told = true;
    observer_.OnHandoff(agent_, change);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  stream_ = nullptr;
  // That the agent is away the questions tell, and an agent that cannot be watched is asked anyway.
  stream->Finish().IgnoreError();
  return told;
}

bool AgentFeed::Wait(absl::Duration duration, bool* woken) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoNanoseconds(duration), [&] { return stopping_ || *woken; });
  *woken = false;
  return !stopping_;
}

void AgentFeed::Wake(bool* woken) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    *woken = true;
  }
  changed_.notify_all();
}

}  // namespace tsc_handoff::tscctl
