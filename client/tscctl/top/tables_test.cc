#include "client/tscctl/top/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/tscctl/top/summary.h"
#include "client/tscctl/top/top_testing.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Texts(const Row& row) {
  std::vector<std::string> texts;
  for (const Cell& cell : row.cells) texts.push_back(cell.text);
  return texts;
}

std::string Note(const Row& row) { return row.cells.back().text; }

TEST(HostTableTest, AFitHost) {
  const Row row = HostTable({{MakeAgent("a")}}, TestNow()).rows[0];
  EXPECT_THAT(Texts(row), ElementsAre("a", "synchronised", "+-20.0 us", "1.20 s", "0",
                                      "2,600,000 kHz", "now", "a:50051", ""));
  EXPECT_EQ(row.severity, Severity::kNormal);
}

TEST(HostTableTest, AnAgentThatIsAwayShowsWhyAndWhenItWasSeen) {
  AgentView agent = MakeAgent("a");
  agent.error = "connection refused";
  agent.answered = TestNow().steady - std::chrono::seconds(12);
  const Row row = HostTable({{agent}}, TestNow()).rows[0];
  EXPECT_THAT(Texts(row), ElementsAre("a", "AWAY", "-", "-", "0", "2,600,000 kHz", "12.0 s ago",
                                      "a:50051", "connection refused"));
  EXPECT_EQ(row.severity, Severity::kBad);
  EXPECT_TRUE(row.past);
}

TEST(HostTableTest, AnAgentThatNeverAnsweredIsNamedByItsAddress) {
  Snapshot snapshot{{{.address = "10.0.0.1:50051"}}};
  Row row = HostTable(snapshot, TestNow()).rows[0];
  EXPECT_THAT(Texts(row), ElementsAre("10.0.0.1:50051", "?", "-", "-", "-", "-", "never",
                                      "10.0.0.1:50051", "connecting"));
  EXPECT_EQ(row.severity, Severity::kNormal);
  snapshot.agents[0].error = "no route";
  row = HostTable(snapshot, TestNow()).rows[0];
  EXPECT_EQ(row.severity, Severity::kBad);
}

TEST(HostTableTest, WhatMakesAHostUnfitIsSaid) {
  using Edit = void (*)(v1::HostInfo&);
  const struct {
    Edit edit;
    const char* note;
    Severity severity;
  } rows[] = {
      {[](v1::HostInfo& host) {
         host.mutable_clock()->set_trusted(false);
         host.mutable_clock()->set_untrusted_reason("no chronyd");
       },
       "clock not trusted: no chronyd", Severity::kBad},
      {[](v1::HostInfo& host) { host.set_tsc_stable(false); }, "TSC not stable: ", Severity::kBad},
      {[](v1::HostInfo& host) { host.set_kvm_available(false); }, "no KVM: ", Severity::kBad},
      {[](v1::HostInfo& host) { host.set_journal_unavailable_reason("disk full"); },
       "no journal: disk full", Severity::kBad},
      {[](v1::HostInfo& host) {
         host.mutable_clock()->set_status(v1::ClockInfo::STATUS_FREE_RUNNING);
       },
       "its clock's source is silent", Severity::kWarning},
      {[](v1::HostInfo& host) { host.mutable_clock()->set_leap_second(true); },
       "a leap second is near", Severity::kWarning}};
  for (const auto& expected : rows) {
    AgentView agent = MakeAgent("a");
    expected.edit(agent.host);
    const Row row = HostTable({{agent}}, TestNow()).rows[0];
    EXPECT_EQ(Note(row), expected.note);
    EXPECT_EQ(row.severity, expected.severity) << expected.note;
  }
}

TEST(HostTableTest, WhatAnAgentSaysCannotSteerTheTerminal) {
  AgentView agent = MakeAgent("a");
  agent.host.set_host_name("\x1b[31mevil");
  EXPECT_EQ(HostTable({{agent}}, TestNow()).rows[0].cells[0].text, "?[31mevil");
}

TEST(VmTableTest, ARunningVmAndOneThatWaits) {
  AgentView agent = MakeAgent("a");
  agent.vms = {MakeVm("vm1"), MakeVm("vm2", /*running=*/false)};
  agent.vms[1].set_may_run(false);
  agent.vms[1].set_may_not_run_reason("it awaits a handoff");
  agent.vms[1].set_epoch(3);
  const TopTable table = VmTable({{agent}});
  EXPECT_THAT(Texts(table.rows[0]), ElementsAre("vm1", "a", "running", "yes", "4", "-", "-",
                                                "cooperative", "-", "4711", ""));
  EXPECT_THAT(Texts(table.rows[1]), ElementsAre("vm2", "a", "paused", "no", "4", "-", "-",
                                                "cooperative", "3", "4711", "it awaits a handoff"));
  EXPECT_EQ(table.rows[1].severity, Severity::kNormal);
}

TEST(VmTableTest, AVmThatRunsWithoutPermitIsAnAlarm) {
  AgentView agent = MakeAgent("a");
  agent.vms = {MakeVm("vm1")};
  agent.vms[0].set_may_run(false);
  agent.vms[0].set_may_not_run_reason("released");
  const TopTable table = VmTable({{agent}});
  EXPECT_EQ(table.rows[0].severity, Severity::kBad);
  EXPECT_THAT(Note(table.rows[0]), HasSubstr("RUNS THOUGH IT MAY NOT: released"));
}

TEST(VmTableTest, WhatKvmShowsOfItsTscs) {
  AgentView agent = MakeAgent("a");
  agent.vms = {MakeVm("vm1"), MakeVm("vm2"), MakeVm("vm3")};
  agent.vms[0].mutable_observation()->set_offsets_equal(true);
  agent.vms[1].mutable_observation()->set_phase_spread_ticks(35'000);
  agent.vms[2].mutable_observation()->set_offsets_equal(true);
  agent.vms[2].mutable_observation()->set_changed_on_its_own(2);
  const TopTable table = VmTable({{agent}});
  EXPECT_EQ(table.rows[0].cells[5].text, "0");
  EXPECT_EQ(table.rows[0].cells[6].text, "ok");
  EXPECT_EQ(table.rows[0].severity, Severity::kNormal);
  EXPECT_EQ(table.rows[1].cells[5].text, "35,000");
  EXPECT_EQ(table.rows[1].cells[6].text, "off");
  EXPECT_EQ(table.rows[1].severity, Severity::kWarning);
  EXPECT_EQ(Note(table.rows[2]), "its phase changed on its own, 2 times");
  EXPECT_EQ(table.rows[2].severity, Severity::kWarning);
}

TEST(HandoffTableTest, PendingOnesCountTheirTimeByTheirHostsClock) {
  AgentView source = MakeAgent("a");
  const AgentView destination = MakeAgent("b");
  source.handoffs = {MakeHandoff("h1", "vm1")};
  source.handoffs[0].mutable_ticket()->set_destination_agent_id(destination.host.agent_id());
  source.ahead_ns = 500'000'000;
  Snapshot snapshot{{source, destination}};
  EXPECT_THAT(
      Texts(HandoffTable(snapshot, TestNow()).rows[0]),
      ElementsAre("vm1", "a", "source", "CAPTURED", "b", "2.50 s", "1.50 s", "3", "h1", ""));
  snapshot.agents.pop_back();
  EXPECT_EQ(HandoffTable(snapshot, TestNow()).rows[0].cells[4].text, "agent 622e2e2e");
}

TEST(HandoffTableTest, EndedOnesShowHowLongTheyTookAndComeLast) {
  AgentView agent = MakeAgent("a");
  agent.handoffs = {MakeHandoff("h1", "vm1"), MakeHandoff("h2", "vm2")};
  agent.handoffs[0].set_state(v1::Handoff::STATE_RELEASED);
  agent.handoffs[0].set_changed_at_ns(agent.handoffs[0].begun_at_ns() + 4'200'000);
  const TopTable table = HandoffTable({{agent}}, TestNow());
  EXPECT_EQ(table.rows[0].id.name, "h2");
  EXPECT_EQ(table.rows[1].id.name, "h1");
  EXPECT_EQ(table.rows[1].cells[5].text, "4.20 ms");
  EXPECT_EQ(table.rows[1].cells[6].text, "-");
  EXPECT_TRUE(table.rows[1].past);
}

TEST(HandoffTableTest, AnUndecidedOneIsAnAlarm) {
  AgentView agent = MakeAgent("a");
  agent.handoffs = {MakeHandoff("h1", "vm1")};
  agent.handoffs[0].set_undecided(true);
  const Row row = HandoffTable({{agent}}, TestNow()).rows[0];
  EXPECT_EQ(row.severity, Severity::kBad);
  EXPECT_THAT(Note(row), HasSubstr("UNDECIDED"));
  EXPECT_EQ(row.cells[3].look, Look::kBad);
}

TEST(HandoffTableTest, ClocksThatMakeNoSenseGiveNoTime) {
  AgentView agent = MakeAgent("a");
  agent.handoffs = {MakeHandoff("h1", "vm1")};
  agent.handoffs[0].set_begun_at_ns(absl::ToUnixNanos(TestNow().wall) + 1);
  EXPECT_EQ(HandoffTable({{agent}}, TestNow()).rows[0].cells[5].text, "-");
}

TEST(SummaryTest, AlarmsComeByTheirUrgency) {
  AgentView away = MakeAgent("a");
  away.error = "gone";
  AgentView bad = MakeAgent("b");
  bad.host.mutable_clock()->set_trusted(false);
  bad.host.set_tsc_stable(false);
  bad.vms = {MakeVm("vm1"), MakeVm("vm2", /*running=*/false)};
  bad.vms[0].set_may_run(false);
  bad.handoffs = {MakeHandoff("h1", "vm1"), MakeHandoff("h2", "vm2")};
  bad.handoffs[0].set_undecided(true);
  bad.handoffs[1].set_state(v1::Handoff::STATE_ABORTED);
  const Summary summary = Summarise({{away, bad}});
  EXPECT_THAT(summary.alarms, ElementsAre("1 VM runs without permit", "1 handoff undecided",
                                          "1 agent away", "1 host unfit", "1 clock untrusted"));
  EXPECT_THAT(summary.counts, ElementsAre("2 hosts", "2 VMs", "1 running", "1 handoff pending"));
}

TEST(SummaryTest, NothingIsWrong) { EXPECT_THAT(Summarise({{MakeAgent("a")}}).alarms, IsEmpty()); }

}  // namespace
}  // namespace tsc_handoff::tscctl
