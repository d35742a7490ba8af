// resume, abort, handoffs and evacuate, against agents that behave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "client/lib/testing/fake_agent.h"
#include "client/tscctl/tscctl_testing.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;

using Json = nlohmann::json;

constexpr auto kSource = v1::Handoff::SIDE_SOURCE;
constexpr auto kDestination = v1::Handoff::SIDE_DESTINATION;

// Ends a call at once: only what may be lost is asked for again.
const client::FakeError kBroken{absl::StatusCode::kInternal, "broken", "INTERNAL_ERROR", {}};

class TscctlHandoffTest : public TscctlTest {
 protected:
  // `tscctl WORDS... --from source_ --to destination_`.
  Outcome Between(std::vector<std::string> words) {
    for (const std::string& word :
         {std::string("--from"), source_.target(), std::string("--to"), destination_.target()})
      words.push_back(word);
    return Do(words);
  }

  std::string Command(const std::string& what) const {
    return "`tscctl " + what + " --from " + source_.target() + " --to " + destination_.target() +
           "`";
  }

  // Handoff h1 of vm1 is captured, applied and not released.
  Outcome BeginOnly() {
    source_.FailNext("CommitHandoff", kBroken);
    return Handoff({"--id", "h1"});
  }
  // ... and released, and the destination does not know it.
  Outcome ReleaseOnly() {
    destination_.FailNext("CommitHandoff", kBroken);
    return Handoff({"--id", "h1"});
  }

  v1::Handoff::State StateAt(client::FakeAgent& agent, v1::Handoff::Side side) {
    return agent.GetFakeHandoff("h1", side).state();
  }
};

TEST_F(TscctlHandoffTest, WhatIsNotReleasedCanBeResumedOrGivenUp) {
  const Outcome run = BeginOnly();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err, AllOf(HasSubstr("reason: INTERNAL_ERROR\n"),
                             HasSubstr("state: Not decided: keep VM vm1"),
                             HasSubstr("next: Go on with " + Command("resume h1") + ", or give it"),
                             HasSubstr("not released: " + Command("abort h1") + ".\n")));
}

TEST_F(TscctlHandoffTest, WhatIsReleasedCanBeResumedOnly) {
  const Outcome run = ReleaseOnly();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, AllOf(HasSubstr("state: Released and not finished: VM vm1"),
                             HasSubstr("next: Go on with " + Command("resume h1") + ".\n"),
                             Not(HasSubstr("abort"))));
}

TEST_F(TscctlHandoffTest, ResumeFinishesWhatWasBegun) {
  BeginOnly();
  const Outcome run = Between({"resume", "h1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Handed over: resume VM vm1 at " + destination_.target()));
  EXPECT_EQ(StateAt(source_, kSource), v1::Handoff::STATE_RELEASED);
  EXPECT_EQ(StateAt(destination_, kDestination), v1::Handoff::STATE_ACTIVE);
  EXPECT_EQ(destination_.CallCount("SetTscState"), 1) << "it was applied";
  EXPECT_EQ(Between({"resume", "h1"}).exit_code, 0) << "may be repeated";
}

TEST_F(TscctlHandoffTest, ResumeAppliesWhatWasCapturedOnly) {
  destination_.FailNext("SetTscState", kBroken);
  source_.FailNext("AbortHandoff", kBroken);
  EXPECT_EQ(Handoff({"--id", "h1"}).exit_code, 1);
  ASSERT_EQ(StateAt(source_, kSource), v1::Handoff::STATE_CAPTURED);
  const Outcome run = Between({"resume", "h1", "-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["handoff_id"], "h1");
  EXPECT_EQ(json["outcome"], "moved");
  EXPECT_EQ(json["epoch"], 1);
  EXPECT_EQ(json["vm"], "vm1");
  EXPECT_EQ(json["to_vm"], "vm1");
  EXPECT_EQ(json["phase_error_ticks"], 0);
  EXPECT_EQ(json["vcpus"].size(), 4u);
}

TEST_F(TscctlHandoffTest, ResumeTellsTheDestinationWhatTheSourceHasGivenUp) {
  BeginOnly();
  destination_.FailNext("AbortHandoff", kBroken);
  const Outcome aborted = Between({"abort", "h1"});
  EXPECT_EQ(aborted.exit_code, 1);
  EXPECT_THAT(aborted.err, AllOf(HasSubstr("state: Aborted, and " + destination_.target()),
                                 HasSubstr("next: Go on with " + Command("resume h1") + ".\n")));
  const Outcome run = Between({"resume", "h1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Aborted: VM vm1 at " + source_.target()));
  EXPECT_EQ(StateAt(destination_, kDestination), v1::Handoff::STATE_ABORTED);
  EXPECT_EQ(Json::parse(Between({"resume", "h1", "-o", "json"}).out)["outcome"], "aborted");
}

TEST_F(TscctlHandoffTest, AbortGivesTheVmBackToTheSource) {
  BeginOnly();
  EXPECT_FALSE(source_.GetFakeVm("vm1").may_run);
  for (const char* time : {"first", "again"}) {
    const Outcome run = Between({"abort", "h1"});
    EXPECT_EQ(run.exit_code, 0) << time << run.err;
    EXPECT_THAT(run.out, AllOf(HasSubstr("is as it was and may be resumed"), Not(HasSubstr("ns"))));
  }
  EXPECT_TRUE(source_.GetFakeVm("vm1").may_run);
  EXPECT_EQ(StateAt(source_, kSource), v1::Handoff::STATE_ABORTED);
  EXPECT_EQ(StateAt(destination_, kDestination), v1::Handoff::STATE_ABORTED);
}

TEST_F(TscctlHandoffTest, AbortIsRefusedAfterTheRelease) {
  ReleaseOnly();
  const Outcome run = Between({"abort", "h1"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, AllOf(HasSubstr("reason: HANDOFF_DECIDED\n"),
                             HasSubstr("state: Released and not finished"),
                             HasSubstr("next: Go on with " + Command("resume h1") + ".\n")));
  EXPECT_EQ(Json::parse(Between({"abort", "h1", "-o", "json"}).err)["error"]["reason"],
            "HANDOFF_DECIDED");
  EXPECT_EQ(StateAt(source_, kSource), v1::Handoff::STATE_RELEASED);
  EXPECT_EQ(Between({"resume", "h1"}).exit_code, 0);
}

TEST_F(TscctlHandoffTest, AnIdThatNobodyKnowsIsSaid) {
  for (const char* command : {"resume", "abort"}) {
    const Outcome run = Between({command, "h9"});
    EXPECT_EQ(run.exit_code, 1) << command;
    EXPECT_THAT(run.err, AllOf(HasSubstr("reason: HANDOFF_NOT_FOUND\n"),
                               HasSubstr("state: Nothing was captured"),
                               HasSubstr("next: Correct the id or the addresses")));
  }
}

TEST_F(TscctlHandoffTest, NobodysHandoffsAreSaid) {
  EXPECT_THAT(Do({"handoffs"}).out, HasSubstr("No handoffs are remembered at " + source_.target()));
  EXPECT_THAT(Do({"handoffs", "--pending"}).out, HasSubstr("Nothing is pending at"));
  EXPECT_THAT(Do({"handoffs", "--stuck"}).out, HasSubstr("Nothing is stuck at"));
  EXPECT_EQ(Json::parse(Do({"handoffs", "-o", "json"}).out)["handoffs"], Json::array());
}

TEST_F(TscctlHandoffTest, HandoffsOfBothSidesAreListed) {
  ReleaseOnly();
  EXPECT_THAT(
      Do({"handoffs"}).out,
      MatchesRegex(
          "HANDOFF  SIDE    STATE     VM   EPOCH  CHANGED                      SILENT\n"
          "h1       source  RELEASED  vm1      1  2023-11-14 22:13:20\\.000 UTC       -\n"));
  const Outcome there = Do({"handoffs", "--agent", destination_.target()});
  EXPECT_THAT(there.out, HasSubstr("h1       destination  APPLIED  vm1      1"));
  const Json json = Json::parse(Do({"handoffs", "-o", "json"}).out);
  ASSERT_EQ(json["handoffs"].size(), 1u);
  EXPECT_EQ(json["handoffs"][0]["handoff_id"], "h1");
  EXPECT_EQ(json["handoffs"][0]["side"], "SIDE_SOURCE");
  EXPECT_EQ(json["handoffs"][0]["state"], "STATE_RELEASED");
  EXPECT_EQ(json["handoffs"][0]["ticket"]["epoch"], "1");
}

TEST_F(TscctlHandoffTest, PendingAndVmChooseHandoffs) {
  ReleaseOnly();
  source_.AddVm(client::MakeFakeVm("vm2", 1));
  destination_.AddVm(client::MakeFakeVm("vm2", 1));
  source_.FailNext("CommitHandoff", kBroken);
  EXPECT_EQ(Between({"handoff", "vm2", "--id", "h2"}).exit_code, 1);
  EXPECT_THAT(Do({"handoffs"}).out, AllOf(HasSubstr("h1"), HasSubstr("h2")));
  EXPECT_THAT(Do({"handoffs", "--pending"}).out,
              AllOf(Not(HasSubstr("h1")), HasSubstr("h2       source  CAPTURED  vm2")));
  EXPECT_THAT(Do({"handoffs", "--vm", "vm1"}).out, AllOf(HasSubstr("h1"), Not(HasSubstr("h2"))));
  EXPECT_THAT(Do({"handoffs", "--pending", "--agent", destination_.target()}).out,
              AllOf(HasSubstr("h1"), HasSubstr("h2")));
}

TEST_F(TscctlHandoffTest, StuckOnesSaySinceWhen) {
  BeginOnly();
  EXPECT_THAT(Do({"handoffs", "--stuck"}).out, HasSubstr("Nothing is stuck at"));
  source_.EditHandoff("h1", kSource, [](v1::Handoff& handoff) {
    handoff.set_silent_ns(42'000'000'000);
    handoff.set_undecided(true);
  });
  EXPECT_THAT(Do({"handoffs", "--stuck"}).out, HasSubstr("42.000 s, stuck\n"));
  const Json json = Json::parse(Do({"handoffs", "--stuck", "-o", "json"}).out);
  ASSERT_EQ(json["handoffs"].size(), 1u);
  EXPECT_EQ(json["handoffs"][0]["undecided"], true);
  EXPECT_EQ(json["handoffs"][0]["silent_ns"], "42000000000");
}

// vm1 can be handed over, vm2 has other vCPUs there, vm3 waits nowhere.
class TscctlEvacuateTest : public TscctlHandoffTest {
 protected:
  void AddVmsThatStay() {
    source_.AddVm(client::MakeFakeVm("vm2", 2));
    destination_.AddVm(client::MakeFakeVm("vm2", 3));
    source_.AddVm(client::MakeFakeVm("vm3", 1));
  }

  Outcome Evacuate(std::vector<std::string> more = {}) {
    more.insert(more.begin(), "evacuate");
    return Between(more);
  }

  static Json Of(const Json& json, const std::string& vm) {
    for (const Json& entry : json["vms"]) {
      if (entry["vm"] == vm) return entry;
    }
    return nullptr;
  }
};

TEST_F(TscctlEvacuateTest, AllThatMovesIsCounted) {
  const Outcome run = Evacuate();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, MatchesRegex("1 moved, 0 aborted, 0 pending, 0 skipped, in [0-9.]+ s\\.\n"));
  EXPECT_EQ(run.err, "evacuate: 1 VM to hand over, 16 at a time\nmoved  vm1  " +
                         destination_.target() + "\n");
  EXPECT_TRUE(destination_.GetFakeVm("vm1").may_run);
  const Outcome again = Evacuate();
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("0 moved, 0 aborted, 0 pending, 0 skipped"));
}

TEST_F(TscctlEvacuateTest, SummaryNamesWhatStaysAndWhy) {
  AddVmsThatStay();
  const Outcome run = Evacuate();
  EXPECT_EQ(run.exit_code, 1);
  const std::string to = destination_.target();
  EXPECT_THAT(run.out,
              AllOf(MatchesRegex("VM +TO +OUTCOME  WHY +GO ON WITH\n(.|\n)*"),
                    HasSubstr("vm2  " + to + "  aborted  VCPU_SET_MISMATCH\n"),
                    HasSubstr("\nVCPU_SET_MISMATCH: apply at " + to +
                              ": the state has other vCPUs. "
                              "Create the destination VM with the same vCPUs.\n"),
                    HasSubstr("\nNOT_WAITING: no destination has a VM of this id. Create it there"),
                    HasSubstr("\n1 moved, 1 aborted, 0 pending, 1 skipped, in ")));
  EXPECT_THAT(run.out, ::testing::ContainsRegex("vm3  - +skipped  NOT_WAITING\n"));
  EXPECT_THAT(run.err, AllOf(HasSubstr("evacuate: 2 VMs to hand over, 16 at a time; 1 left out\n"),
                             HasSubstr("\nmoved  vm1  " + to + "\n"),
                             HasSubstr("\naborted  vm2  " + to + "  VCPU_SET_MISMATCH\n"),
                             HasSubstr("\nskipped  vm3  NOT_WAITING\n"),
                             HasSubstr("\ntscctl: evacuate: 2 VMs were not handed over\n"),
                             HasSubstr("\nreason: NOT_ALL_MOVED\n"),
                             HasSubstr("\nnext: Mend what is named")));
  EXPECT_TRUE(source_.GetFakeVm("vm2").may_run);
}

TEST_F(TscctlEvacuateTest, JsonHasEveryVmAndEveryDocumentedField) {
  AddVmsThatStay();
  const Outcome run = Evacuate({"-o", "json"});
  EXPECT_EQ(run.exit_code, 1);
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["moved"], 1);
  EXPECT_EQ(json["aborted"], 1);
  EXPECT_EQ(json["pending"], 0);
  EXPECT_EQ(json["skipped"], 1);
  EXPECT_EQ(json["not_begun"], 0);
  ASSERT_EQ(json["vms"].size(), 3u);
  EXPECT_EQ(Of(json, "vm1")["outcome"], "moved");
  EXPECT_EQ(Of(json, "vm1")["reason"], "");
  EXPECT_EQ(Of(json, "vm1")["to"], destination_.target());
  EXPECT_EQ(Of(json, "vm2")["outcome"], "aborted");
  EXPECT_EQ(Of(json, "vm2")["reason"], "VCPU_SET_MISMATCH");
  EXPECT_EQ(source_.GetFakeHandoff(Of(json, "vm2")["handoff_id"], kSource).state(),
            v1::Handoff::STATE_ABORTED);
  EXPECT_EQ(Of(json, "vm3")["outcome"], "skipped");
  EXPECT_EQ(Of(json, "vm3")["reason"], "NOT_WAITING");
  EXPECT_TRUE(Of(json, "vm3")["to"].is_null());
  const std::string help = Tscctl({"evacuate", "--help"}).out;
  for (const auto& [key, value] : json.items()) EXPECT_THAT(help, HasSubstr(key));
  for (const auto& [key, value] : json["vms"][0].items()) EXPECT_THAT(help, HasSubstr(key));
  EXPECT_EQ(Json::parse(run.err)["error"]["reason"], "NOT_ALL_MOVED") << "and nothing else";
}

TEST_F(TscctlEvacuateTest, PendingOnesComeFirstAndNameTheirCommand) {
  AddVmsThatStay();
  destination_.FailNext("CommitHandoff", kBroken);
  const Outcome run = Evacuate();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, MatchesRegex("VM [^\n]*\nvm1 [^\n]* pending  INTERNAL_ERROR +tscctl resume "
                                    "[0-9a-f-]+ --from " +
                                    source_.target() + " --to " + destination_.target() +
                                    "\nvm2 [^\n]* aborted (.|\n)*"));
  EXPECT_THAT(run.out, HasSubstr("0 moved, 1 aborted, 1 pending, 1 skipped"));
}

TEST_F(TscctlEvacuateTest, WhatWasBegunIsResumed) {
  for (const bool released : {false, true}) {
    const std::string vm = released ? "vm5" : "vm4";
    source_.AddVm(client::MakeFakeVm(vm, 2));
    destination_.AddVm(client::MakeFakeVm(vm, 2));
    (released ? destination_ : source_).FailNext("CommitHandoff", kBroken);
    EXPECT_EQ(Between({"handoff", vm, "--id", "h-" + vm}).exit_code, 1);
  }
  const Outcome run = Evacuate({"-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["moved"], 3);
  EXPECT_EQ(Of(json, "vm4")["handoff_id"], "h-vm4");
  EXPECT_EQ(Of(json, "vm5")["handoff_id"], "h-vm5");
}

TEST_F(TscctlEvacuateTest, WhatTheSourceHadGivenUpIsHandedOverAnew) {
  BeginOnly();
  destination_.FailNext("AbortHandoff", kBroken);
  EXPECT_EQ(Between({"abort", "h1"}).exit_code, 1);
  const Outcome run = Evacuate({"-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NE(Of(Json::parse(run.out), "vm1")["handoff_id"], "h1");
  EXPECT_EQ(StateAt(destination_, kDestination), v1::Handoff::STATE_ABORTED);
  EXPECT_TRUE(destination_.GetFakeVm("vm1").may_run);
}

TEST_F(TscctlEvacuateTest, HandoffsWithOtherHostsAreNamedAndLeftAlone) {
  BeginOnly();
  client::FakeAgent third;
  third.AddVm(client::MakeFakeVm("vm1", 4));
  const Outcome run = Do({"evacuate", "--from", source_.target(), "--to", third.target()});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, AllOf(HasSubstr("pending  OTHER_DESTINATION"),
                             HasSubstr("handoff h1 gives it to a host that --to does not name"),
                             HasSubstr("0 moved, 0 aborted, 1 pending, 0 skipped")));
  EXPECT_EQ(StateAt(source_, kSource), v1::Handoff::STATE_CAPTURED);

  const Outcome back = Do({"evacuate", "--from", destination_.target(), "--to", third.target()});
  EXPECT_EQ(back.exit_code, 1);
  EXPECT_THAT(back.out, AllOf(HasSubstr("skipped  ARRIVING"),
                              HasSubstr("handoff h1 is bringing it here, and is not finished")));
}

TEST_F(TscctlEvacuateTest, EachVmGoesWhereFewerGo) {
  client::FakeAgent third;
  for (const char* vm : {"vm1", "vm2", "vm3", "vm4"}) {
    source_.AddVm(client::MakeFakeVm(vm, 1));
    destination_.AddVm(client::MakeFakeVm(vm, 1));
    third.AddVm(client::MakeFakeVm(vm, 1));
  }
  const Outcome run = Do({"evacuate", "--from", source_.target(), "--to",
                          destination_.target() + "," + third.target(), "--parallel", "1"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(destination_.CallCount("SetTscState"), 2);
  EXPECT_EQ(third.CallCount("SetTscState"), 2);
}

TEST_F(TscctlEvacuateTest, AVmThatComesMeanwhileIsHandedOver) {
  destination_.AddVm(client::MakeFakeVm("late", 1));
  destination_.EditNextApply(
      [&](v1::SetTscStateResponse&) { source_.AddVm(client::MakeFakeVm("late", 1)); });
  const Outcome run = Evacuate({"-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Of(Json::parse(run.out), "late")["outcome"], "moved");
}

TEST_F(TscctlEvacuateTest, WhatCannotWorkIsRefusedBeforeAnythingIsBegun) {
  const Outcome same =
      Do({"evacuate", "--from", source_.target(), "--to", "dns:" + source_.target()});
  EXPECT_EQ(same.exit_code, 1);
  EXPECT_THAT(same.err, HasSubstr("are the same agent"));
  const Outcome twice = Do({"evacuate", "--from", source_.target(), "--to",
                            destination_.target() + "," + destination_.target()});
  EXPECT_THAT(twice.err, HasSubstr("are the same agent"));
  destination_.EditHost([](v1::HostInfo& host) {
    host.clear_agent_id();
    host.set_journal_unavailable_reason("the disk is full");
  });
  const Outcome journal = Evacuate();
  EXPECT_EQ(journal.exit_code, 1);
  EXPECT_THAT(journal.err,
              AllOf(HasSubstr("the disk is full"), HasSubstr("reason: JOURNAL_UNAVAILABLE\n")));
  destination_.Stop();
  EXPECT_EQ(Evacuate().exit_code, 3);
  EXPECT_EQ(source_.CallCount("GetTscState"), 0);
}

TEST_F(TscctlEvacuateTest, ATerminalHasABarInsteadOfLines) {
  AddVmsThatStay();
  environment_.stderr_is_terminal = true;
  environment_.variables["NO_COLOR"] = "1";
  const Outcome run = Evacuate();
  EXPECT_THAT(run.err, AllOf(HasSubstr("\r\x1b[K[....................] 0/2  moved 0"),
                             HasSubstr("\r\x1b[K[####################] 2/2  moved 1  aborted 1  "
                                       "skipped 1\n"),
                             Not(HasSubstr("moved  vm1"))));
  EXPECT_THAT(run.out, Not(HasSubstr("\x1b")));
}

TEST_F(TscctlHandoffTest, ReclaimHasTheOtherAgentDisownTheVmFirst) {
  ASSERT_EQ(Handoff({"--id", "h1"}).exit_code, 0);
  EXPECT_FALSE(source_.GetFakeVm("vm1").may_run);
  const Outcome run =
      Do({"-o", "json", "reclaim", "vm1", "--handoff", "h1", "--from", destination_.target()});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json said = Json::parse(run.out);
  EXPECT_EQ(said["vm"], "vm1");
  EXPECT_EQ(said["handoff_id"], "h1");
  EXPECT_EQ(said["disowned_by"], destination_.target());
  EXPECT_EQ(said["epoch"], 42) << "above the one at the agent that has disowned it";
  EXPECT_TRUE(source_.GetFakeVm("vm1").may_run);
}

TEST_F(TscctlHandoffTest, WhatIsNotDisownedIsNotReclaimed) {
  ReleaseOnly();
  const Outcome run = Do({"reclaim", "vm1", "--handoff", "h1", "--from", destination_.target()});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("reason: HANDOFF_UNDECIDED "));
  EXPECT_FALSE(source_.GetFakeVm("vm1").may_run);
}

TEST_F(TscctlHandoffTest, ReclaimSaysThatNoHostLetsTheVmRunWhenItsOwnHalfFails) {
  ASSERT_EQ(Handoff({"--id", "h1"}).exit_code, 0);
  source_.FailNext("ReclaimVm", kBroken);
  const Outcome run = Do({"reclaim", "vm1", "--handoff", "h1", "--from", destination_.target()});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("no host lets it run until this command has succeeded"));
}

TEST_F(TscctlHandoffTest, WithoutTheOtherAgentReclaimWantsTheOperatorsWord) {
  ReleaseOnly();
  Outcome run = Do({"reclaim", "vm1", "--handoff", "h1"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("--runs-nowhere-else"));
  EXPECT_FALSE(source_.GetFakeVm("vm1").may_run);
  run = Do({"reclaim", "vm1", "--handoff", "h1", "--runs-nowhere-else", "--from",
            destination_.target()});
  EXPECT_EQ(run.exit_code, 2) << "one of the two";
  run = Do({"reclaim", "vm1", "--handoff", "h1", "--runs-nowhere-else", "--epoch-above", "8"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "VM vm1 is this host's again and may run, with epoch 9.\n");
  run = Do({"reclaim", "vm1", "--handoff", "h1", "--runs-nowhere-else"});
  EXPECT_THAT(run.out, HasSubstr("it was reclaimed before"));
}

TEST_F(TscctlHandoffTest, ReclaimOfWhatWasNeverHandedOffSaysSo) {
  const Outcome run = Do({"reclaim", "vm1", "--runs-nowhere-else"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("was never handed off"));
}

TEST_F(TscctlHandoffTest, DisownBarsAVmAtTheAgentThatIsAsked) {
  ASSERT_EQ(Handoff({"--id", "h1"}).exit_code, 0);
  EXPECT_EQ(Do({"disown", "vm1"}).exit_code, 2) << "which handoff?";
  const Outcome run = Do({"--agent", destination_.target(), "disown", "vm1", "--handoff", "h1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "VM vm1 is this host's no more, until a handoff brings it.\n");
  EXPECT_EQ(Do({"--agent", destination_.target(), "disown", "vm1", "--handoff", "h2"}).exit_code,
            1);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
