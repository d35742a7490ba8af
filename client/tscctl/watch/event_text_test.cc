#include "client/tscctl/watch/event_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

const Palette kNoColours(false);

Event Make(Event::Kind kind) {
  Event event;
  event.kind = kind;
  event.at = absl::FromUnixMillis(1'700'000'000'123);
  event.agent = "host1:50051";
  event.host = "host1";
  event.info.set_agent_version("1.2.3");
  event.info.set_vm_count(3);
  v1::ClockInfo* clock = event.info.mutable_clock();
  clock->set_trusted(true);
  clock->set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
  clock->set_error_bound_ns(20'000);
  event.error = absl::UnavailableError("agent host1:50051 cannot be reached: \"refused\"");
  event.handoff.set_handoff_id("h1");
  event.handoff.set_side(v1::Handoff::SIDE_SOURCE);
  event.handoff.set_state(v1::Handoff::STATE_RELEASED);
  event.handoff.set_vm_id("vm1");
  event.handoff.mutable_ticket()->set_epoch(3);
  event.handoff.mutable_ticket()->set_source_agent_id("\x01\x02");
  event.handoff.mutable_ticket()->set_destination_agent_id("\xab\xcd");
  event.before = v1::Handoff::STATE_CAPTURED;
  return event;
}

std::string Text(Event::Kind kind) { return EventAsText(Make(kind), kNoColours); }

TEST(EventTextTest, EachKindIsOneLineOfWords) {
  EXPECT_EQ(Text(Event::Kind::kAgentFound),
            "2023-11-14T22:13:20.123Z host1:50051 agent_found host=host1 version=1.2.3 vms=3");
  EXPECT_EQ(Text(Event::Kind::kAgentLost),
            "2023-11-14T22:13:20.123Z host1:50051 agent_lost host=host1 "
            "reason=\"agent host1:50051 cannot be reached: \\\"refused\\\"\"");
  EXPECT_EQ(Text(Event::Kind::kClock),
            "2023-11-14T22:13:20.123Z host1:50051 clock host=host1 status=synchronised trusted=yes "
            "bound_ns=20000");
  EXPECT_EQ(Text(Event::Kind::kHandoff),
            "2023-11-14T22:13:20.123Z host1:50051 handoff host=host1 state=RELEASED "
            "before=CAPTURED vm=vm1 side=source id=h1 epoch=3 peer_id=abcd");
  EXPECT_EQ(Text(Event::Kind::kUndecided),
            "2023-11-14T22:13:20.123Z host1:50051 undecided host=host1 state=RELEASED vm=vm1 "
            "side=source id=h1 epoch=3 peer_id=abcd");
}

TEST(EventTextTest, AClockThatIsNotTrustedSaysWhy) {
  Event event = Make(Event::Kind::kClock);
  event.info.mutable_clock()->set_trusted(false);
  event.info.mutable_clock()->set_status(v1::ClockInfo::STATUS_DISRUPTED);
  event.info.mutable_clock()->set_untrusted_reason("it was stepped");
  event.initial = true;
  EXPECT_EQ(EventAsText(event, kNoColours),
            "2023-11-14T22:13:20.123Z host1:50051 clock host=host1 status=disrupted trusted=no "
            "reason=\"it was stepped\" initial=yes");
}

TEST(EventTextTest, WhatAnAgentSaysStaysOnTheLine) {
  Event event = Make(Event::Kind::kAgentLost);
  event.host = "a\nb\x1b[2J";
  EXPECT_EQ(EventAsText(event, kNoColours).find_first_of("\n\x1b"), std::string::npos);
}

TEST(EventTextTest, JsonHasTheDocumentedFields) {
  const auto handoff = nlohmann::json::parse(EventAsJson(Make(Event::Kind::kHandoff)));
  EXPECT_EQ(handoff["time"], "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(handoff["event"], "handoff");
  EXPECT_EQ(handoff["before"], "STATE_CAPTURED");
  EXPECT_EQ(handoff["handoff"]["state"], "STATE_RELEASED");
  EXPECT_EQ(handoff["handoff"]["pending"], false);
  EXPECT_EQ(handoff["handoff"]["source_agent_id"], "0102");
  const auto clock = nlohmann::json::parse(EventAsJson(Make(Event::Kind::kClock)));
  EXPECT_EQ(clock["clock"]["error_bound_ns"], 20'000);
  const auto found = nlohmann::json::parse(EventAsJson(Make(Event::Kind::kAgentFound)));
  EXPECT_EQ(found["vm_count"], 3);
  const auto lost = nlohmann::json::parse(EventAsJson(Make(Event::Kind::kAgentLost)));
  EXPECT_EQ(lost["event"], "agent_lost");
  EXPECT_NE(std::string(lost["message"]).find("refused"), std::string::npos);
}

TEST(EventTextTest, JsonIsOneLineAndValidWhateverAnAgentSays) {
  Event event = Make(Event::Kind::kHandoff);
  event.host = "\xff\n";
  const std::string line = EventAsJson(event);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_TRUE(nlohmann::json::accept(line));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
