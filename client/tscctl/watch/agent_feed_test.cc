#include "client/tscctl/watch/agent_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/lib/testing/fake_agent.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr auto kPatience = std::chrono::seconds(30);

// Keeps what it is told.
class Listener final : public AgentObserver {
 public:
  void OnPoll(size_t, const absl::StatusOr<AgentPoll>& poll) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    polls_.push_back(poll);
    changed_.notify_all();
  }
  void OnHandoff(size_t, const v1::WatchHandoffsResponse& change) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    changes_.push_back(change);
    changed_.notify_all();
  }

  // Waits for one from `first` on that is as wanted; the place after it.
  size_t AwaitPoll(const std::function<bool(const absl::StatusOr<AgentPoll>&)>& wanted,
                   size_t first = 0) {
    std::unique_lock<std::mutex> lock(mutex_);
    size_t next = first;
    const bool found = changed_.wait_for(lock, kPatience, [&] {
      while (next < polls_.size()) {
        if (wanted(polls_[next++])) return true;
      }
      return false;
    });
    EXPECT_TRUE(found);
    return next;
  }

  v1::WatchHandoffsResponse AwaitChange(size_t number) {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return changes_.size() > number; }));
    return changes_.size() > number ? changes_[number] : v1::WatchHandoffsResponse();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<absl::StatusOr<AgentPoll>> polls_;
  std::vector<v1::WatchHandoffsResponse> changes_;
};

bool IsAnswer(const absl::StatusOr<AgentPoll>& poll) { return poll.ok(); }
bool IsFailure(const absl::StatusOr<AgentPoll>& poll) { return !poll.ok(); }

v1::Handoff Make(const std::string& id, v1::Handoff::State state) {
  v1::Handoff handoff;
  handoff.set_handoff_id(id);
  handoff.set_side(v1::Handoff::SIDE_SOURCE);
  handoff.set_state(state);
  handoff.set_vm_id("vm1");
  return handoff;
}

class AgentFeedTest : public ::testing::Test {
 protected:
  AgentFeedTest() : agent_(std::make_unique<client::FakeAgent>()) {
    agent_->AddVm(client::MakeFakeVm("vm1", 2));
    options_.interval = absl::Milliseconds(10);
  }

  std::unique_ptr<AgentFeed> Follow() {
    auto client = client::AgentClient::Connect(agent_->target());
    return std::make_unique<AgentFeed>(0, *std::move(client), options_, listener_);
  }

  std::unique_ptr<client::FakeAgent> agent_;
  FeedOptions options_;
  Listener listener_;
};

TEST_F(AgentFeedTest, TellsHostVmsAndPendingHandoffsAgainAndAgain) {
  agent_->PutHandoff(Make("h1", v1::Handoff::STATE_CAPTURED));
  agent_->PutHandoff(Make("h2", v1::Handoff::STATE_RELEASED));
  const std::unique_ptr<AgentFeed> feed = Follow();
  std::optional<AgentPoll> answer;
  size_t next = listener_.AwaitPoll([&](const absl::StatusOr<AgentPoll>& poll) {
    if (poll.ok()) answer = *poll;
    return poll.ok();
  });
  EXPECT_EQ(answer->host.host_name(), "fake-host");
  ASSERT_EQ(answer->vms.size(), 1u);
  ASSERT_EQ(answer->handoffs.size(), 1u);
  EXPECT_EQ(answer->handoffs[0].handoff_id(), "h1");
  EXPECT_LE(answer->asked, answer->answered);
  for (int i = 0; i < 3; ++i) next = listener_.AwaitPoll(IsAnswer, next);
}

TEST_F(AgentFeedTest, TellsChangesAsTheyHappen) {
  agent_->PutHandoff(Make("h1", v1::Handoff::STATE_CAPTURED));
  const std::unique_ptr<AgentFeed> feed = Follow();
  EXPECT_TRUE(listener_.AwaitChange(0).initial());
  agent_->PutHandoff(Make("h1", v1::Handoff::STATE_RELEASED));
  EXPECT_EQ(listener_.AwaitChange(1).handoff().state(), v1::Handoff::STATE_RELEASED);
}

TEST_F(AgentFeedTest, AnAgentThatIsAwayIsAskedOnAndWatchedAgain) {
  const int port = agent_->port();
  const std::unique_ptr<AgentFeed> feed = Follow();
  size_t next = listener_.AwaitPoll(IsAnswer);
  agent_.reset();
  next = listener_.AwaitPoll(IsFailure, next);
  agent_ = std::make_unique<client::FakeAgent>(port);
  agent_->PutHandoff(Make("h1", v1::Handoff::STATE_CAPTURED));
  listener_.AwaitPoll(IsAnswer, next);
  EXPECT_EQ(listener_.AwaitChange(0).handoff().handoff_id(), "h1");
}

TEST_F(AgentFeedTest, AfterAGapAllHandoffsAreAskedForOnce) {
  options_.catch_up = true;
  const auto all = [](const absl::StatusOr<AgentPoll>& poll) {
    return poll.ok() && poll->all_handoffs;
  };
  const auto pending = [](const absl::StatusOr<AgentPoll>& poll) {
    return poll.ok() && !poll->all_handoffs;
  };
  agent_->PutHandoff(Make("h1", v1::Handoff::STATE_RELEASED));
  const std::unique_ptr<AgentFeed> feed = Follow();
  size_t next = listener_.AwaitPoll(all);
  next = listener_.AwaitPoll(pending, next);
  agent_->EndWatches({absl::StatusCode::kResourceExhausted, "too slow", "LIMIT_EXCEEDED", {}});
  size_t handoffs = 0;
  next = listener_.AwaitPoll(
      [&](const absl::StatusOr<AgentPoll>& poll) {
        if (poll.ok()) handoffs = poll->handoffs.size();
        return all(poll);
      },
      next);
  EXPECT_EQ(handoffs, 1u);
  listener_.AwaitPoll(pending, next);
}

TEST_F(AgentFeedTest, AnAgentThatCannotBeWatchedIsAsked) {
  agent_->FailNext("WatchHandoffs", {absl::StatusCode::kUnimplemented, "too old", "", {}}, 1000);
  const std::unique_ptr<AgentFeed> feed = Follow();
  size_t next = 0;
  for (int i = 0; i < 3; ++i) next = listener_.AwaitPoll(IsAnswer, next);
}

TEST_F(AgentFeedTest, EndsAtOnceThoughTheAgentDoesNotAnswer) {
  options_.interval = absl::Hours(1);
  agent_->HangNext("GetHostInfo");
  auto client_options = client::AgentClientOptions();
  client_options.timeout = absl::Hours(1);
  auto client = client::AgentClient::Connect(agent_->target(), client_options);
  const AgentFeed feed(0, *std::move(client), options_, listener_);
  while (agent_->CallCount("GetHostInfo") == 0) std::this_thread::yield();
}

}  // namespace
}  // namespace tsc_handoff::tscctl
