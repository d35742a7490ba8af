#include "client/tscctl/watch/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Handoff Make(const std::string& id, v1::Handoff::State state, int64_t changed_at_ns) {
  v1::Handoff handoff;
  handoff.set_handoff_id(id);
  handoff.set_side(v1::Handoff::SIDE_SOURCE);
  handoff.set_state(state);
  handoff.set_changed_at_ns(changed_at_ns);
  return handoff;
}

v1::WatchHandoffsResponse Change(const v1::Handoff& handoff, bool initial = false) {
  v1::WatchHandoffsResponse change;
  *change.mutable_handoff() = handoff;
  change.set_initial(initial);
  return change;
}

AgentPoll Answer(std::vector<v1::Handoff> handoffs = {}) {
  AgentPoll poll;
  poll.host.set_host_name("host1");
  poll.host.mutable_clock()->set_trusted(true);
  poll.host.mutable_clock()->set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
  poll.handoffs = std::move(handoffs);
  poll.all_handoffs = true;
  return poll;
}

class EventTrackerTest : public ::testing::Test {
 protected:
  static std::vector<std::string> Words(const std::vector<Event>& events) {
    std::vector<std::string> words;
    for (const Event& event : events) {
      const std::string initial = event.initial ? " initial" : "";
      switch (event.kind) {
        case Event::Kind::kAgentFound:
          words.push_back("found " + event.host + initial);
          break;
        case Event::Kind::kAgentLost:
          words.push_back(absl::StrCat("lost: ", event.error.message(), initial));
          break;
        case Event::Kind::kClock:
          words.push_back(
              absl::StrCat("clock ", event.info.clock().trusted() ? "good" : "bad", initial));
          break;
        case Event::Kind::kHandoff:
          words.push_back(absl::StrCat(event.handoff.handoff_id(), " ", event.before, "->",
                                       event.handoff.state(), initial));
          break;
        case Event::Kind::kUndecided:
          words.push_back(absl::StrCat(event.handoff.handoff_id(), " undecided", initial));
          break;
      }
    }
    return words;
  }
  std::vector<std::string> Poll(const absl::StatusOr<AgentPoll>& poll) {
    return Words(tracker_.OnPoll(poll, absl::UnixEpoch()));
  }
  std::vector<std::string> Hear(const v1::WatchHandoffsResponse& change) {
    return Words(tracker_.OnHandoff(change, absl::UnixEpoch()));
  }

  EventTracker tracker_{"host1:50051"};
};

// Numbers of v1::Handoff::State: 1 CAPTURED, 2 RELEASED, 3 ABORTED.

TEST_F(EventTrackerTest, TheFirstAnswerTellsHowThingsAre) {
  EXPECT_THAT(Poll(Answer()), ElementsAre("found host1 initial", "clock good initial"));
  EXPECT_THAT(Poll(Answer()), IsEmpty());
}

TEST_F(EventTrackerTest, AnAgentIsLostOnceAndFoundAgain) {
  Poll(Answer());
  EXPECT_THAT(Poll(absl::UnavailableError("gone")), ElementsAre("lost: gone"));
  EXPECT_THAT(Poll(absl::UnavailableError("gone")), IsEmpty());
  EXPECT_THAT(Poll(Answer()), ElementsAre("found host1"));
}

TEST_F(EventTrackerTest, AnAgentThatIsAwayFromTheStartIsTold) {
  EXPECT_THAT(Poll(absl::UnavailableError("gone")), ElementsAre("lost: gone initial"));
  EXPECT_THAT(Poll(absl::UnavailableError("gone")), IsEmpty());
}

TEST_F(EventTrackerTest, AClockIsToldWhenItsTrustOrStatusChanges) {
  Poll(Answer());
  AgentPoll answer = Answer();
  answer.host.mutable_clock()->set_error_bound_ns(5);
  EXPECT_THAT(Poll(answer), IsEmpty());
  answer.host.mutable_clock()->set_trusted(false);
  EXPECT_THAT(Poll(answer), ElementsAre("clock bad"));
  answer.host.mutable_clock()->set_status(v1::ClockInfo::STATUS_DISRUPTED);
  EXPECT_THAT(Poll(answer), ElementsAre("clock bad"));
}

TEST_F(EventTrackerTest, ChangesOfAHandoffAreToldWithWhatWasBefore) {
  EXPECT_THAT(Hear(Change(Make("h", v1::Handoff::STATE_CAPTURED, 1), true)),
              ElementsAre("h 0->1 initial"));
  EXPECT_THAT(Hear(Change(Make("h", v1::Handoff::STATE_RELEASED, 2))), ElementsAre("h 1->2"));
}

TEST_F(EventTrackerTest, WhatANewStreamRepeatsIsNotToldAgain) {
  Hear(Change(Make("h", v1::Handoff::STATE_CAPTURED, 1)));
  EXPECT_THAT(Hear(Change(Make("h", v1::Handoff::STATE_CAPTURED, 1), true)), IsEmpty());
}

TEST_F(EventTrackerTest, WhatIsListedAndWhatIsStreamedIsToldOnce) {
  Poll(Answer());
  EXPECT_THAT(Poll(Answer({Make("h", v1::Handoff::STATE_CAPTURED, 5)})), ElementsAre("h 0->1"));
  EXPECT_THAT(Hear(Change(Make("h", v1::Handoff::STATE_CAPTURED, 5))), IsEmpty());
  EXPECT_THAT(Hear(Change(Make("h", v1::Handoff::STATE_RELEASED, 6))), ElementsAre("h 1->2"));
  EXPECT_THAT(Poll(Answer({Make("h", v1::Handoff::STATE_RELEASED, 6)})), IsEmpty());
}

TEST_F(EventTrackerTest, WhatEndedBeforeTheWatchIsNotTold) {
  EXPECT_THAT(Poll(Answer({Make("old", v1::Handoff::STATE_RELEASED, 3),
                           Make("open", v1::Handoff::STATE_CAPTURED, 2)})),
              ElementsAre("found host1 initial", "clock good initial", "open 0->1 initial"));
  EXPECT_THAT(Poll(Answer({Make("old", v1::Handoff::STATE_RELEASED, 3)})), IsEmpty());
}

TEST_F(EventTrackerTest, WhatHappenedInAGapIsToldInItsOrder) {
  Poll(Answer({Make("a", v1::Handoff::STATE_CAPTURED, 1)}));
  Poll(absl::UnavailableError("gone"));
  // As agents list them: the last begun first.
  EXPECT_THAT(Poll(Answer({Make("b", v1::Handoff::STATE_ABORTED, 9),
                           Make("a", v1::Handoff::STATE_RELEASED, 8)})),
              ElementsAre("found host1", "a 1->2", "b 0->3"));
}

TEST_F(EventTrackerTest, UndecidedIsToldOnceEachTime) {
  Poll(Answer({Make("h", v1::Handoff::STATE_CAPTURED, 1)}));
  v1::Handoff undecided = Make("h", v1::Handoff::STATE_CAPTURED, 1);
  undecided.set_undecided(true);
  EXPECT_THAT(Poll(Answer({undecided})), ElementsAre("h undecided"));
  EXPECT_THAT(Poll(Answer({undecided})), IsEmpty());
  EXPECT_THAT(Poll(Answer({Make("h", v1::Handoff::STATE_CAPTURED, 1)})), IsEmpty());
  EXPECT_THAT(Poll(Answer({undecided})), ElementsAre("h undecided"));
}

TEST_F(EventTrackerTest, AClockThatWentBackHidesNoChange) {
  Hear(Change(Make("h", v1::Handoff::STATE_CAPTURED, 100)));
  EXPECT_THAT(Hear(Change(Make("h", v1::Handoff::STATE_RELEASED, 50))), ElementsAre("h 1->2"));
}

TEST_F(EventTrackerTest, BothSidesOfAHandoffWithinAHostAreTold) {
  Hear(Change(Make("h", v1::Handoff::STATE_CAPTURED, 1)));
  v1::Handoff destination = Make("h", v1::Handoff::STATE_EMPTY, 1);
  destination.set_side(v1::Handoff::SIDE_DESTINATION);
  EXPECT_THAT(Hear(Change(destination)), ElementsAre("h 0->4"));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
