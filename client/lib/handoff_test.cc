#include "client/lib/handoff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "client/lib/rpc_error.h"
#include "client/lib/testing/fake_agent.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::Each;
using ::testing::HasSubstr;

class HandoffTest : public ::testing::Test {
 protected:
  HandoffTest() {
    from_.AddVm(MakeFakeVm("vm1", 8));
    FakeVm destination = MakeFakeVm("vm1", 8);
    for (VcpuView& vcpu : destination.vcpus) vcpu.guest_tsc_ticks = 0;
    to_.AddVm(destination);
    request_.source_vm_id = "vm1";
    request_.apply.set_vm_id("vm1");
    request_.apply.set_mode(v1::APPLY_MODE_ELAPSED);
  }

  HandoffReport Run() {
    AgentClientOptions options;
    options.timeout = timeout_;
    options.retry.max_attempts = 1;
    const std::unique_ptr<AgentClient> source = *AgentClient::Connect(from_.target(), options);
    const std::unique_ptr<AgentClient> destination = *AgentClient::Connect(to_.target(), options);
    return Handoff(*source, *destination, request_);
  }

  FakeAgent from_;
  FakeAgent to_;
  HandoffRequest request_;
  absl::Duration timeout_ = absl::Seconds(5);
};

TEST_F(HandoffTest, MovesEveryTscByTheSameTime) {
  const HandoffReport report = Run();
  ASSERT_TRUE(report.status.ok()) << report.status;
  EXPECT_EQ(report.end, HandoffEnd::kMoved);
  EXPECT_EQ(report.phase_error_ticks, 0u);
  EXPECT_THAT(report.phase_change_ticks, Each(0));
  const FakeVm now = to_.GetFakeVm("vm1");
  // 50 ms at 2 GHz.
  EXPECT_EQ(now.vcpus[7].guest_tsc_ticks,
            MakeFakeVm("vm1", 8).vcpus[7].guest_tsc_ticks + 100'000'000);
  EXPECT_THAT(report.situation, HasSubstr("resume VM vm1 at " + to_.target()));
}

TEST_F(HandoffTest, TimesEveryStepAndReportsProgress) {
  absl::Duration now;
  request_.time.steady_now = [&now] { return now += absl::Milliseconds(1); };
  std::vector<std::pair<HandoffStep, HandoffProgress::Event>> events;
  request_.progress = [&](const HandoffProgress& progress) {
    events.emplace_back(progress.step, progress.event);
  };
  const HandoffReport report = Run();
  EXPECT_EQ(report.check, absl::Milliseconds(1));
  EXPECT_EQ(report.get_rpc, absl::Milliseconds(1));
  EXPECT_EQ(report.set_rpc, absl::Milliseconds(1));
  EXPECT_EQ(report.commits, absl::Milliseconds(2));
  EXPECT_EQ(report.handoff, absl::Milliseconds(8));
  EXPECT_EQ(report.total, absl::Milliseconds(12));
  using Event = HandoffProgress::Event;
  EXPECT_THAT(events,
              testing::ElementsAre(std::pair(HandoffStep::kCheck, Event::kStarted),
                                   std::pair(HandoffStep::kCheck, Event::kDone),
                                   std::pair(HandoffStep::kCapture, Event::kStarted),
                                   std::pair(HandoffStep::kCapture, Event::kDone),
                                   std::pair(HandoffStep::kApply, Event::kStarted),
                                   std::pair(HandoffStep::kApply, Event::kDone),
                                   std::pair(HandoffStep::kCommitSource, Event::kStarted),
                                   std::pair(HandoffStep::kCommitSource, Event::kDone),
                                   std::pair(HandoffStep::kCommitDestination, Event::kStarted),
                                   std::pair(HandoffStep::kCommitDestination, Event::kDone)));
}

TEST_F(HandoffTest, WrongDestinationIsFoundBeforeTheCapture) {
  request_.apply.set_vm_id("vm2");
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::VM_NOT_FOUND);
  EXPECT_EQ(report.end, HandoffEnd::kNothingDone);
  EXPECT_EQ(from_.CallCount("GetTscState"), 0);
}

TEST_F(HandoffTest, DamagedCaptureIsNotApplied) {
  from_.DamageNextCapture();
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::STATE_CORRUPT);
  EXPECT_EQ(report.end, HandoffEnd::kUndone);
  EXPECT_EQ(to_.CallCount("SetTscState"), 0);
}

TEST_F(HandoffTest, RunningSourceChangesNothing) {
  FakeVm running = MakeFakeVm("vm1", 8);
  running.running = true;
  from_.AddVm(running);
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::VM_RUNNING);
  EXPECT_EQ(report.end, HandoffEnd::kNothingDone);
  EXPECT_EQ(to_.CallCount("SetTscState"), 0);
}

TEST_F(HandoffTest, RefusedApplySaysThatTheSourceIsAsItWas) {
  to_.AddVm(MakeFakeVm("vm1", 7));
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::VCPU_SET_MISMATCH);
  EXPECT_EQ(report.end, HandoffEnd::kUndone);
  EXPECT_THAT(report.situation,
              HasSubstr("VM vm1 at " + from_.target() + " is as it was and may be resumed"));
  EXPECT_EQ(from_.GetFakeHandoff(report.handoff_id, v1::Handoff::SIDE_SOURCE).state(),
            v1::Handoff::STATE_ABORTED);
  EXPECT_EQ(to_.GetFakeHandoff(report.handoff_id, v1::Handoff::SIDE_DESTINATION).state(),
            v1::Handoff::STATE_ABORTED);
}

TEST_F(HandoffTest, ALostAnswerIsAskedForAgain) {
  to_.LoseNextSetAnswer();
  const HandoffReport report = Run();
  ASSERT_TRUE(report.status.ok()) << report.status;
  EXPECT_EQ(report.end, HandoffEnd::kMoved);
  EXPECT_EQ(to_.CallCount("SetTscState"), 2);
}

TEST_F(HandoffTest, AHandoffThatIsNotAnsweredStaysPendingAndIsResumedByItsId) {
  request_.handoff_id = "h1";
  request_.max_attempts = 2;
  to_.FailNext("CommitHandoff", {absl::StatusCode::kUnavailable, "away", "", {}}, 2);
  const HandoffReport pending = Run();
  EXPECT_EQ(pending.end, HandoffEnd::kPending);
  EXPECT_EQ(pending.silent, At::kDestination);
  EXPECT_THAT(pending.situation, HasSubstr("Released and not finished"));
  request_ = HandoffRequest();
  request_.goal = HandoffGoal::kAbort;
  request_.handoff_id = "h1";
  EXPECT_EQ(ReasonOf(Run().status), v1::HANDOFF_DECIDED);
  request_.goal = HandoffGoal::kResume;
  const HandoffReport resumed = Run();
  ASSERT_TRUE(resumed.status.ok()) << resumed.status;
  EXPECT_EQ(resumed.end, HandoffEnd::kMoved);
}

TEST_F(HandoffTest, AHandoffThatIsNotReleasedCanBeAborted) {
  request_.handoff_id = "h1";
  request_.max_attempts = 1;
  from_.FailNext("CommitHandoff", {absl::StatusCode::kUnavailable, "away", "", {}});
  EXPECT_EQ(Run().end, HandoffEnd::kPending);
  request_.goal = HandoffGoal::kAbort;
  const HandoffReport aborted = Run();
  ASSERT_TRUE(aborted.status.ok()) << aborted.status;
  EXPECT_EQ(aborted.end, HandoffEnd::kUndone);
  request_.goal = HandoffGoal::kResume;
  EXPECT_EQ(Run().end, HandoffEnd::kUndone) << "it stays so";
}

TEST_F(HandoffTest, AVmThatIsNotBackYetAfterItsAgentsRestartIsWaitedFor) {
  request_.time.sleep = [](absl::Duration) { return true; };
  const FakeError not_back = {absl::StatusCode::kNotFound, "no such VM", "VM_NOT_FOUND", {}};
  to_.FailNext("SetTscState", not_back, 3);
  to_.FailNext("CommitHandoff", not_back, 3);
  const HandoffReport report = Run();
  ASSERT_TRUE(report.status.ok()) << report.status;
  EXPECT_EQ(report.end, HandoffEnd::kMoved);
}

TEST_F(HandoffTest, AVmThatDoesNotComeBackEndsIt) {
  request_.time.sleep = [](absl::Duration) { return true; };
  const FakeError gone = {absl::StatusCode::kNotFound, "no such VM", "VM_NOT_FOUND", {}};
  to_.FailNext("SetTscState", gone, 100);
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::VM_NOT_FOUND);
  EXPECT_EQ(report.end, HandoffEnd::kUndone);
  EXPECT_EQ(to_.CallCount("SetTscState"), 4);
}

TEST_F(HandoffTest, WhatNobodyKnowsIsSaid) {
  request_.handoff_id = "h1";
  request_.goal = HandoffGoal::kResume;
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::HANDOFF_NOT_FOUND);
  EXPECT_EQ(report.end, HandoffEnd::kNothingDone);
}

TEST_F(HandoffTest, NothingIsCalledAfterAStop) {
  int calls = 0;
  request_.stop = [&] { return ++calls > 5; };
  const HandoffReport report = Run();
  EXPECT_EQ(report.end, HandoffEnd::kPending);
  EXPECT_EQ(report.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(to_.CallCount("SetTscState"), 0);
}

TEST_F(HandoffTest, AStopBeforeTheCaptureLeavesNothingBegun) {
  int calls = 0;
  request_.stop = [&] { return ++calls > 2; };
  EXPECT_EQ(Run().end, HandoffEnd::kNothingDone);
  EXPECT_EQ(from_.CallCount("GetTscState"), 0);
}

TEST_F(HandoffTest, WhatComesBeforeTheCaptureIsDoneOnceAfterBothVmsWereFound) {
  std::vector<std::string> order;
  request_.before_capture = [&order] {
    order.emplace_back("before_capture");
    return absl::OkStatus();
  };
  request_.progress = [&order](const HandoffProgress& progress) {
    if (progress.event == HandoffProgress::Event::kDone) order.emplace_back(NameOf(progress.step));
  };
  from_.FailNext("GetTscState", {absl::StatusCode::kUnavailable, "busy", "VM_BUSY", {}});
  const HandoffReport report = Run();
  ASSERT_TRUE(report.status.ok()) << report.status;
  EXPECT_THAT(order, testing::ElementsAre("check", "before_capture", "capture", "apply",
                                          "commit source", "commit destination"));
}

TEST_F(HandoffTest, WhatFailsBeforeTheCaptureLeavesNothingBegun) {
  request_.before_capture = [] { return absl::AbortedError("the migration failed"); };
  const HandoffReport report = Run();
  EXPECT_EQ(report.end, HandoffEnd::kNothingDone);
  EXPECT_EQ(report.status, absl::AbortedError("the migration failed"));
  EXPECT_EQ(from_.CallCount("GetTscState"), 0);
}

TEST_F(HandoffTest, LooksAreRepeatedAsOftenAsAsked) {
  const FakeError away{absl::StatusCode::kUnavailable, "away", "", {}};
  to_.FailNext("GetVm", away, 3);
  const HandoffReport given_up = Run();
  EXPECT_EQ(given_up.end, HandoffEnd::kNothingDone);
  EXPECT_EQ(given_up.silent, At::kDestination);
  to_.FailNext("GetVm", away, 3);
  request_.max_looks = 4;
  EXPECT_EQ(Run().end, HandoffEnd::kMoved);
}

TEST_F(HandoffTest, AnAgentThatRefusesIsNotSilent) {
  from_.FailNext("GetVm", {absl::StatusCode::kResourceExhausted, "full", "LIMIT_EXCEEDED", {}}, 3);
  EXPECT_EQ(Run().silent, std::nullopt);
}

TEST(NewHandoffIdTest, IsARandomUuidOfVersion4) {
  const std::string id = NewHandoffId();
  // x: any hexadecimal digit; y: one of RFC 4122's variant. (gcc 12 warns of std::regex under
  // ASan.)
  const std::string form = "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx";
  ASSERT_EQ(id.size(), form.size());
  for (size_t i = 0; i < id.size(); ++i) {
    const std::string allowed = form[i] == 'x'   ? "0123456789abcdef"
                                : form[i] == 'y' ? "89ab"
                                                 : std::string(1, form[i]);
    EXPECT_NE(allowed.find(id[i]), std::string::npos) << id << " at " << i;
  }
  EXPECT_NE(id, NewHandoffId());
}

TEST_F(HandoffTest, FailedRollbackForbidsTheDestination) {
  to_.FailNext("SetTscState",
               {absl::StatusCode::kInternal, "vCPU 3 not restored", "ROLLBACK_FAILED", {}});
  const HandoffReport report = Run();
  EXPECT_EQ(report.end, HandoffEnd::kUndone);
  EXPECT_THAT(report.situation, HasSubstr("do not use VM vm1 at " + to_.target()));
}

TEST_F(HandoffTest, AgentsClaimOfExactPhaseIsChecked) {
  to_.MisreportNextSet(5, 3);
  const HandoffReport report = Run();
  EXPECT_EQ(report.status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(report.status.message()), HasSubstr("by up to 3 ticks"));
  EXPECT_EQ(report.end, HandoffEnd::kUndone) << "it was not released yet";
}

TEST_F(HandoffTest, AgentsClaimOfMonotonicTimeIsChecked) {
  to_.MisreportNextSet(0, -100'000'001);
  const HandoffReport report = Run();
  EXPECT_THAT(std::string(report.status.message()), HasSubstr("the TSC of vCPU 0 went from"));
}

TEST_F(HandoffTest, ExactModeKeepsEveryValue) {
  request_.apply.set_mode(v1::APPLY_MODE_EXACT);
  ASSERT_TRUE(Run().status.ok());
  EXPECT_EQ(to_.GetFakeVm("vm1").vcpus[3].guest_tsc_ticks,
            MakeFakeVm("vm1", 8).vcpus[3].guest_tsc_ticks);
}

TEST_F(HandoffTest, TheSourcesOwnAddressIsProbedUnlessThereIsAReasonNotTo) {
  const struct {
    const char* name;
    const char* peer_address;  // what the source says of itself
    const char* given;         // by the caller
    bool probe;
    bool same_host;
    v1::ApplyMode mode;
    const char* sent;
  } kRows[] = {
      {"as a rule", "h1:1", "", true, false, v1::APPLY_MODE_ELAPSED, "h1:1"},
      {"the caller knows better", "h1:1", "h9:9", true, false, v1::APPLY_MODE_ELAPSED, "h9:9"},
      {"the source has no address", "", "", true, false, v1::APPLY_MODE_ELAPSED, ""},
      {"switched off", "h1:1", "", false, false, v1::APPLY_MODE_ELAPSED, ""},
      {"switched off and yet given", "h1:1", "h9:9", false, false, v1::APPLY_MODE_ELAPSED, "h9:9"},
      {"on one host", "h1:1", "", true, true, v1::APPLY_MODE_ELAPSED, ""},
      {"no clock is used", "h1:1", "", true, false, v1::APPLY_MODE_EXACT, ""},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    from_.EditHost([&](v1::HostInfo& host) {
      host.set_peer_address(row.peer_address);
      host.set_boot_id("boot of source..");
    });
    to_.EditHost([&](v1::HostInfo& host) {
      host.set_peer_address("h2:2");
      host.set_boot_id(row.same_host ? "boot of source.." : "boot of the dest");
    });
    request_.probe = row.probe;
    request_.apply.set_source_agent(row.given);
    request_.apply.set_mode(row.mode);
    const HandoffReport report = Run();
    ASSERT_TRUE(report.status.ok()) << report.status;
    EXPECT_EQ(to_.LastSetRequest().source_agent(), row.sent);
    EXPECT_EQ(report.source_agent, row.sent);
  }
}

TEST_F(HandoffTest, HostsWithoutABootIdAreNotTakenForOne) {
  for (FakeAgent* agent : {&from_, &to_}) {
    agent->EditHost([](v1::HostInfo& host) {
      host.clear_boot_id();
      host.set_peer_address("h1:1");
    });
  }
  EXPECT_EQ(Run().source_agent, "h1:1");
}

TEST_F(HandoffTest, AHostThatDoesNotAnswerIsFoundBeforeTheCapture) {
  from_.EditHost([](v1::HostInfo& host) { host.set_peer_address("h1:1"); });
  const struct {
    FakeAgent& agent;
    const char* says;
  } kRows[] = {{from_, "look at the source"}, {to_, "look at the destination"}};
  for (const auto& row : kRows) {
    row.agent.FailNext("GetHostInfo", {absl::StatusCode::kInternal, "x", "INTERNAL_ERROR", {}});
    const HandoffReport report = Run();
    EXPECT_EQ(ReasonOf(report.status), v1::INTERNAL_ERROR);
    EXPECT_THAT(std::string(report.status.message()), HasSubstr(row.says));
    EXPECT_EQ(report.end, HandoffEnd::kNothingDone);
  }
  EXPECT_EQ(from_.CallCount("GetTscState"), 0);
}

TEST_F(HandoffTest, ClocksThatDisagreeLeaveTheSourceAsItWas) {
  to_.FailNext("SetTscState",
               {absl::StatusCode::kFailedPrecondition, "300 ms apart", "CLOCKS_DISAGREE", {}});
  const HandoffReport report = Run();
  EXPECT_EQ(ReasonOf(report.status), v1::CLOCKS_DISAGREE);
  EXPECT_EQ(report.end, HandoffEnd::kUndone);
  EXPECT_THAT(report.situation, HasSubstr("may be resumed"));
}

TEST_F(HandoffTest, ValidateOnlyWritesNothing) {
  request_.apply.set_validate_only(true);
  const HandoffReport report = Run();
  ASSERT_TRUE(report.status.ok()) << report.status;
  EXPECT_EQ(to_.GetFakeVm("vm1").vcpus[0].guest_tsc_ticks, 0u);
  EXPECT_THAT(report.situation, HasSubstr("nothing was changed"));
}

}  // namespace
}  // namespace tsc_handoff::client
