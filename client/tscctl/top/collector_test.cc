#include "client/tscctl/top/collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "client/tscctl/top/top_testing.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::IsEmpty;
using ::testing::SizeIs;

AgentPoll Answer() {
  const AgentView agent = MakeAgent("a");
  AgentPoll poll{.host = agent.host};
  poll.vms = {MakeVm("vm1")};
  poll.handoffs = {MakeHandoff("h1", "vm1")};
  poll.asked = poll.answered = TestNow().steady;
  poll.host_answered_at = TestNow().wall;
  return poll;
}

class CollectorTest : public ::testing::Test {
 protected:
  AgentView Take() { return collector_.Take().agents[0]; }
  bool HasNews() const {
    pollfd wait = {.fd = collector_.fd(), .events = POLLIN, .revents = 0};
    return poll(&wait, 1, 0) == 1;
  }

  Collector collector_{{"a:1", "b:1"}, [] { return TestNow().steady; }};
};

TEST_F(CollectorTest, BeforeAnAnswerOnlyTheAddressIsKnown) {
  EXPECT_FALSE(HasNews());
  EXPECT_EQ(Take().address, "a:1");
  EXPECT_EQ(Take().answered, std::nullopt);
}

TEST_F(CollectorTest, AnAnswerIsNewsOnce) {
  collector_.OnPoll(0, Answer());
  EXPECT_TRUE(HasNews());
  const AgentView agent = Take();
  EXPECT_FALSE(HasNews());
  EXPECT_EQ(agent.host.host_name(), "a");
  EXPECT_THAT(agent.vms, SizeIs(1));
  EXPECT_THAT(agent.handoffs, SizeIs(1));
}

TEST_F(CollectorTest, WhatAnAgentSaidStaysWhileItIsAway) {
  collector_.OnPoll(0, Answer());
  collector_.OnPoll(0, absl::UnavailableError("gone\n"));
  AgentView agent = Take();
  EXPECT_EQ(agent.error, "gone ");
  EXPECT_EQ(agent.answered, TestNow().steady);
  EXPECT_THAT(agent.vms, SizeIs(1));
  collector_.OnPoll(0, Answer());
  EXPECT_EQ(Take().error, "");
}

TEST_F(CollectorTest, AChangeOfAHandoffIsSeenAtOnce) {
  collector_.OnPoll(0, Answer());
  v1::WatchHandoffsResponse change;
  *change.mutable_handoff() = MakeHandoff("h1", "vm1");
  change.mutable_handoff()->set_state(v1::Handoff::STATE_RELEASED);
  collector_.OnHandoff(0, change);
  EXPECT_EQ(Take().handoffs[0].state(), v1::Handoff::STATE_RELEASED);
  EXPECT_THAT(collector_.Take().agents[1].handoffs, IsEmpty());
}

TEST_F(CollectorTest, ARealHostsClockCountsAndASimulatedOnesDoesNot) {
  AgentPoll answer = Answer();
  answer.host.mutable_clock()->set_realtime_ns(absl::ToUnixNanos(TestNow().wall) + 5);
  collector_.OnPoll(0, answer);
  EXPECT_EQ(Take().ahead_ns, 5);
  answer.host.set_simulated(true);
  collector_.OnPoll(0, answer);
  EXPECT_EQ(Take().ahead_ns, 0);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
