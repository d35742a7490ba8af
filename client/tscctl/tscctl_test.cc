// tscctl from its arguments to its output and exit code, against agents that behave.
#include "client/tscctl/tscctl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "client/lib/testing/fake_agent.h"
#include "client/tscctl/tscctl_testing.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Json = nlohmann::json;

TEST(TscctlUsageTest, EveryMistakeIsNamedAndExitsWith2) {
  const std::string long_id(129, 'x');
  const struct {
    std::vector<std::string> args;
    std::string says;
  } kRows[] = {
      {{}, "a command is missing"},
      {{"fly"}, "\"fly\" is no command"},
      {{"vms", "--shout"}, "--shout"},
      {{"get"}, "VM is required"},
      {{"get", "vm1", "vm2"}, "vm2"},
      {{"get", ""}, "VM"},
      {{"get", "v m"}, "character other than"},
      {{"get", long_id}, "129 characters; the limit is 128"},
      {{"get", "vm1", "--force"}, "--force requires --out"},
      {{"get", "vm1", "--out", "-"}, "not supported"},
      {{"set", "vm1", "--mode", "exact"}, "--in is required"},
      {{"set", "vm1", "--in", "f"}, "--mode is required"},
      {{"set", "vm1", "--in", "f", "--mode", "fast"}, "--mode"},
      {{"set", "vm1", "--in", "f", "--mode", "exact", "--max-error", "1us"},
       "--max-error has no meaning"},
      {{"set", "vm1", "--in", "f", "--mode", "exact", "--max-elapsed", "1m"},
       "--max-elapsed has no meaning"},
      {{"set", "vm1", "--in", "f", "--mode", "exact", "--allow-untrusted-clock"},
       "--allow-untrusted-clock has no"},
      {{"set", "vm1", "--in", "f", "--mode", "elapsed", "--max-error", "5"}, "is not a duration"},
      {{"set", "vm1", "--in", "f", "--mode", "elapsed", "--max-error", "0s"},
       "is not from 1ns to 1h"},
      {{"set", "vm1", "--in", "f", "--mode", "elapsed", "--max-elapsed", "-1s"}, "is not from 1ns"},
      {{"handoff", "vm1", "--from", "a:1"}, "--to is required"},
      {{"handoff", "vm1", "--from", "a:1", "--to", "a:1"}, "the same VM of the same agent"},
      {{"handoff", "vm1", "--from", "a", "--to", "b:1"}, "has no port"},
      {{"handoff", "vm1", "--from", "a:1", "--to", "b:1", "--to-vm", "x y"},
       "character other than"},
      {{"set", "vm1", "--in", "f", "--mode", "exact", "--source-agent", "h:1"},
       "--source-agent has no meaning"},
      {{"set", "vm1", "--in", "f", "--mode", "elapsed", "--source-agent", "unix:/a.sock"},
       "is not HOST:PORT"},
      {{"set", "vm1", "--in", "f", "--mode", "elapsed", "--source-agent", ""}, "is not HOST:PORT"},
      {{"set", "vm1", "--in", "f", "--mode", "elapsed", "--no-probe"}, "--no-probe"},
      {{"handoff", "vm1", "--from", "a:1", "--to", "b:1", "--source-agent", "a"},
       "is not HOST:PORT"},
      {{"handoff", "vm1", "--from", "a:1", "--to", "b:1", "--source-agent", "a:1", "--no-probe"},
       "excludes"},
      {{"handoff", "vm1", "--from", "a:1", "--to", "b:1", "--no-probe", "--mode", "exact"},
       "--no-probe has no meaning"},
      {{"clock", "a:1"}, "A requires B"},
      {{"clock", "a:1", "b:1", "c:1"}, "c:1"},
      {{"clock", "a:1", "a:1"}, "are the same agent"},
      {{"clock", "a:1", ""}, "the address is empty"},
      {{"clock", "", "b:1"}, "the address is empty"},
      {{"clock", "a", "b:1"}, "has no port"},
      {{"clock", "a:1", "b"}, "has no port"},
      {{"clock", "--peer", "b:1"}, "requires B"},
      {{"clock", "a:1", "b:1", "--peer", "unix:/run/a.sock"}, "is not HOST:PORT"},
      {{"clock", "--agent", "/run/a.sock"}, "needs unix: in front"},
      {{"decode"}, "FILE is required"},
      {{"decode", ""}, "the file's name is empty"},
      {{"vms", "-o", "yaml"}, "yaml"},
      {{"vms", "--timeout", "0s"}, "is not from 1ms to 10m"},
      {{"vms", "--timeout", "soon"}, "--timeout soon is not a duration"},
      {{"vms", "--agent", "/run/a.sock"}, "needs unix: in front"},
      {{"vms", "--agent", "h:99999"}, "is not a number from 1 to 65535"},
      {{"host", "vms"}, "vms"},
  };
  for (const auto& row : kRows) {
    const Outcome run = Tscctl(row.args);
    EXPECT_EQ(run.exit_code, 2) << row.says;
    EXPECT_THAT(run.out, IsEmpty()) << row.says;
    EXPECT_THAT(run.err,
                AllOf(StartsWith("tscctl: "), HasSubstr(row.says), HasSubstr("next: See `tscctl")));
  }
}

TEST(TscctlUsageTest, HelpOfEveryCommandTeaches) {
  for (const char* command : {"", "host", "clock", "vms", "get", "set", "handoff", "resume",
                              "abort", "handoffs", "evacuate", "decode"}) {
    std::vector<std::string> args = {"--help"};
    if (*command != '\0') args.insert(args.begin(), command);
    const Outcome run = Tscctl(args);
    EXPECT_EQ(run.exit_code, 0) << command;
    EXPECT_THAT(run.err, IsEmpty());
    EXPECT_THAT(run.out, AllOf(HasSubstr("Examples:\n  tscctl "), HasSubstr("Exit codes:"),
                               HasSubstr("  5  "), HasSubstr("--timeout")))
        << command;
    std::istringstream lines(run.out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 120u) << line;
  }
}

TEST(TscctlUsageTest, VersionInBothForms) {
  EXPECT_THAT(Tscctl({"version"}).out, StartsWith("tscctl "));
  EXPECT_EQ(Tscctl({"--version"}).out, Tscctl({"version"}).out);
  EXPECT_EQ("tscctl " +
                Json::parse(Tscctl({"version", "-o", "json"}).out)["version"].get<std::string>() +
                "\n",
            Tscctl({"version"}).out);
}

TEST(TscctlUsageTest, UsageErrorIsJsonWhereJsonWasAskedFor) {
  const Outcome run = Tscctl({"get", "-o", "json"});
  EXPECT_EQ(run.exit_code, 2);
  const Json error = Json::parse(run.err)["error"];
  EXPECT_EQ(error["exit_code"], 2);
  EXPECT_EQ(error["reason"], "USAGE");
}

TEST_F(TscctlTest, HostForPeopleAndAsJson) {
  EXPECT_THAT(Do({"host"}).out,
              AllOf(HasSubstr("fake-host"), HasSubstr("2,600,000 kHz"), HasSubstr("+-20.0 us"),
                    HasSubstr("peer address   none: no other agent")));
  source_.EditHost([](v1::HostInfo& host) { host.set_peer_address("10.0.0.1:50051"); });
  EXPECT_THAT(Do({"host"}).out, HasSubstr("peer address   10.0.0.1:50051\n"));
  const Json json = Json::parse(Do({"host", "-o", "json"}).out);
  EXPECT_EQ(json["host"]["tsc_khz"], 2'600'000);
  EXPECT_EQ(json["host"]["tsc_scaling"], false);
}

TEST_F(TscctlTest, VmsOfAllPages) {
  source_.SetPageLimit(1);
  source_.AddVm(client::MakeFakeVm("vm2", 1024));
  EXPECT_THAT(Do({"vms"}).out, AllOf(HasSubstr("vm1"), HasSubstr("1,024  paused")));
  const Json json = Json::parse(Do({"-o", "json", "vms"}).out);
  ASSERT_EQ(json["vms"].size(), 2u);
  EXPECT_EQ(json["vms"][1]["vm_id"], "vm2");
  EXPECT_EQ(json["vms"][1]["vcpu_count"], 1024);
}

TEST_F(TscctlTest, NoVmsIsSaid) {
  client::FakeAgent empty;
  EXPECT_THAT(Do({"vms", "--agent", empty.target()}).out, HasSubstr("No VMs"));
}

TEST_F(TscctlTest, GetShowsTheState) {
  const Outcome run = Do({"get", "vm1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("1,000,000,003,000"), HasSubstr("3,000 ticks"),
                             HasSubstr("-21"), HasSubstr("warning (source): offsets are unequal")));
  EXPECT_EQ(Json::parse(Do({"get", "vm1", "-o", "json"}).out)["state"]["format_version"], 1);
}

TEST_F(TscctlTest, GetKeepsDecodeShowsSetApplies) {
  ASSERT_EQ(Do({"get", "vm1", "--out", file_}).exit_code, 0);
  const Json decoded = Json::parse(Do({"decode", file_, "-o", "json"}).out);
  EXPECT_EQ(decoded["vcpus"][3]["guest_tsc_ticks"], "1000000003000");
  EXPECT_EQ(decoded["vcpus"][3]["tsc_adjust_ticks"], "-21");
  EXPECT_EQ(decoded["phase_spread_ticks"], 3000);
  EXPECT_THAT(Do({"decode", file_}).out, HasSubstr("2023-11-14 22:13:20.000 UTC"));

  const Outcome set =
      Do({"set", "vm1", "--in", file_, "--mode", "elapsed", "--agent", destination_.target(),
          "--max-error", "500us", "--max-elapsed", "10m", "--keep-kvmclock", "--equalise"});
  EXPECT_EQ(set.exit_code, 0) << set.err;
  EXPECT_THAT(set.out, AllOf(HasSubstr("0 ticks, exact"), HasSubstr("50.000 ms"),
                             HasSubstr("Applied and read back.")));
  EXPECT_EQ(destination_.GetFakeVm("vm1").vcpus[0].guest_tsc_ticks, 1'000'100'000'000u);
  const auto request = destination_.LastSetRequest();
  EXPECT_EQ(request.max_error_ns(), 500'000u);
  EXPECT_EQ(request.max_elapsed_ns(), 600'000'000'000u);
  EXPECT_TRUE(request.keep_kvmclock());
  EXPECT_TRUE(request.equalise());
  EXPECT_FALSE(request.allow_untrusted_clock());

  const Outcome json = Do({"set", "vm1", "--in", file_, "--mode", "exact", "-o", "json", "--agent",
                           destination_.target()});
  EXPECT_EQ(Json::parse(json.out)["vcpus"][1]["guest_tsc_ticks"], "1000000001000");
}

TEST_F(TscctlTest, GetDoesNotReplaceAFileUnlessForced) {
  std::ofstream(file_) << "precious";
  const Outcome refused = Do({"get", "vm1", "--out", file_});
  EXPECT_EQ(refused.exit_code, 5);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("exists already"), HasSubstr("--force")));
  EXPECT_EQ(source_.CallCount("GetTscState"), 0);
  EXPECT_EQ(Do({"get", "vm1", "--out", file_, "--force"}).exit_code, 0);
  EXPECT_EQ(Do({"decode", file_}).exit_code, 0);
}

TEST_F(TscctlTest, BadFilesExitWith5AndTouchNoVm) {
  std::ofstream(file_) << "this is no state";
  for (const std::string& file : {file_, directory_ + "/none", directory_}) {
    EXPECT_EQ(Do({"decode", file}).exit_code, 5);
    const Outcome set = Do({"set", "vm1", "--in", file, "--mode", "elapsed"});
    EXPECT_EQ(set.exit_code, 5);
    EXPECT_THAT(set.err, AllOf(HasSubstr("reason: "), HasSubstr("The VM was not touched")));
  }
  EXPECT_EQ(Do({"get", "vm1", "--out", directory_ + "/none/x"}).exit_code, 5);
  EXPECT_EQ(source_.CallCount("SetTscState"), 0);
}

TEST_F(TscctlTest, HandoffTableSaysWhatCounts) {
  const Outcome run = Handoff();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("1,000,000,003,000"), HasSubstr("1,000,100,003,000"),
                    HasSubstr("0 ticks, exact"), HasSubstr("+-40.3 us"), HasSubstr("time taken"),
                    HasSubstr("Handed over: resume VM vm1 at " + destination_.target())));
  EXPECT_THAT(run.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(TscctlTest, HandoffJsonHasEveryDocumentedField) {
  const Outcome run = Handoff({"-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  const std::string help = Tscctl({"handoff", "--help"}).out;
  for (const auto& [key, value] : json.items()) EXPECT_THAT(help, HasSubstr(key));
  for (const auto& [key, value] : json["vcpus"][0].items()) EXPECT_THAT(help, HasSubstr(key));
  EXPECT_EQ(json["vcpus"].size(), 4u);
  EXPECT_EQ(json["vcpus"][2]["vcpu_id"], 2);
  EXPECT_EQ(json["vcpus"][2]["guest_tsc_before_ticks"], "1000000002000");
  EXPECT_EQ(json["vcpus"][2]["guest_tsc_after_ticks"], "1000100002000");
  EXPECT_EQ(json["vcpus"][2]["tsc_adjust_ticks"], "-14");
  EXPECT_EQ(json["elapsed_ns"], 50'000'000);
  EXPECT_EQ(json["error_bound_ns"], 40'300);
  EXPECT_EQ(json["phase_error_ticks"], 0);
  EXPECT_EQ(json["kvmclock"]["error_ns"], -12);
  EXPECT_GT(json["get_rpc_us"].get<double>(), 0);
  EXPECT_GT(json["set_rpc_us"].get<double>(), 0);
  EXPECT_GE(json["handoff_ms"].get<double>() * 1000,
            json["get_rpc_us"].get<double>() + json["set_rpc_us"].get<double>());
  EXPECT_EQ(json["warnings"][0]["side"], "source");
  EXPECT_EQ(json["warnings"][0]["code"], "CODE_MASTER_CLOCK_OFF");
}

TEST_F(TscctlTest, StateOfANewerFormatIsHandedOnUnread) {
  source_.UseNewerFormat();
  destination_.UseNewerFormat();
  const Outcome run = Handoff({"-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_TRUE(json["phase_error_ticks"].is_null());
  EXPECT_TRUE(json["vcpus"][0]["guest_tsc_before_ticks"].is_null());
  EXPECT_EQ(json["phase_error_ticks_agent"], 0);
  EXPECT_EQ(json["guest_tsc_khz"], 2'000'000);
  EXPECT_EQ(Handoff().exit_code, 0);
  EXPECT_THAT(Do({"get", "vm1", "--out", file_}).out,
              AllOf(HasSubstr("cannot be shown"), HasSubstr("Wrote")));
  EXPECT_EQ(Do({"set", "vm1", "--in", file_, "--mode", "exact"}).exit_code, 0);
  EXPECT_THAT(Do({"decode", file_}).err, HasSubstr("format version 2; this client knows"));
}

TEST_F(TscctlTest, ExactHandoffHasNoBoundAndItsOwnName) {
  destination_.AddVm(client::MakeFakeVm("vm1-new", 4));
  const Outcome run = Handoff({"--to-vm", "vm1-new", "--mode", "exact", "-o", "json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["to_vm"], "vm1-new");
  EXPECT_EQ(json["mode"], "exact");
  EXPECT_TRUE(json["error_bound_ns"].is_null());
  EXPECT_EQ(json["elapsed_ns"], 0);
}

TEST_F(TscctlTest, RefusalExitsWith1AndSaysReasonNextAndState) {
  destination_.AddVm(client::MakeFakeVm("vm1", 3));
  const Outcome run = Handoff();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err,
              AllOf(StartsWith("tscctl: handoff vm1: "),
                    HasSubstr("\nreason: VCPU_SET_MISMATCH (vm_id=vm1)\n"),
                    HasSubstr("\nstate: Aborted: VM vm1"),
                    HasSubstr("\nnext: Create the destination VM with the same vCPUs.\n")));
  const Json error = Json::parse(Handoff({"-o", "json"}).err)["error"];
  EXPECT_EQ(error["reason"], "VCPU_SET_MISMATCH");
  EXPECT_EQ(error["code"], "FAILED_PRECONDITION");
  EXPECT_EQ(error["exit_code"], 1);
  EXPECT_EQ(error["metadata"]["vm_id"], "vm1");
  EXPECT_EQ(error["outcome_unknown"], false);
}

TEST_F(TscctlTest, NextStepIsSaidOnce) {
  source_.FailNext(
      "GetTscState",
      {absl::StatusCode::kAborted, "VM vm1 is busy. Wait.", "VM_BUSY", {{"next_step", "Wait."}}});
  EXPECT_EQ(Do({"get", "vm1"}).err,
            "tscctl: get vm1: VM vm1 is busy\nreason: VM_BUSY\nnext: Wait.\n");
}

TEST_F(TscctlTest, NobodyThereExitsWith3) {
  destination_.Stop();
  const Outcome handoff = Handoff();
  EXPECT_EQ(handoff.exit_code, 3);
  EXPECT_THAT(handoff.err, AllOf(HasSubstr("AGENT_UNREACHABLE"), HasSubstr("nothing was changed")));
  // The tests' directory may be longer than a socket's path.
  const std::string socket = "unix:/tmp/tscctl-test-none/none.sock";
  const Outcome vms = Do({"vms", "--agent", socket});
  EXPECT_EQ(vms.exit_code, 3);
  EXPECT_THAT(vms.err, AllOf(HasSubstr(socket), HasSubstr("No such file"),
                             HasSubstr("next: Check that tsc-agent")));
}

TEST_F(TscctlTest, AHandoffAsksAgainForALostAnswer) {
  destination_.LoseNextSetAnswer();
  const Outcome handoff = Handoff();
  EXPECT_EQ(handoff.exit_code, 0) << handoff.err;
  EXPECT_EQ(destination_.CallCount("SetTscState"), 2);
}

TEST_F(TscctlTest, LostAnswerOfSetExitsWith4AndTellsHowToFindOut) {
  ASSERT_EQ(Do({"get", "vm1", "--out", file_}).exit_code, 0);
  source_.HangNext("SetTscState");
  const Outcome set = Do({"set", "vm1", "--in", file_, "--mode", "elapsed", "--timeout", "200ms"});
  EXPECT_EQ(set.exit_code, 4);
  EXPECT_THAT(set.err, AllOf(HasSubstr("did not answer SetTscState in time"),
                             HasSubstr("may have the new TSCs")));
}

TEST_F(TscctlTest, ReadDeadlineExitsWith4AndSaysThatNothingChanged) {
  source_.HangNext("GetVm");
  source_.HangNext("GetTscState");
  const Outcome run = Do({"get", "vm1", "--timeout", "100ms"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_THAT(run.err, HasSubstr("next: Nothing was changed"));
}

TEST_F(TscctlTest, AgentThatClaimsTooMuchIsFoundOut) {
  destination_.MisreportNextSet(1, 7);
  const Outcome run = Handoff();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err,
              AllOf(HasSubstr("changed by up to 7 ticks"), HasSubstr("state: Aborted: VM vm1")));
}

TEST_F(TscctlTest, HostileTextStaysText) {
  source_.FailNext("GetVm", {absl::StatusCode::kInternal, "x", "INTERNAL_ERROR", {}});
  source_.FailNext("GetTscState",
                   {absl::StatusCode::kInternal, "\x1b[2Jboo", "X\nY", {{"k", "\x07"}}});
  const Outcome run = Do({"get", "vm1"});
  EXPECT_THAT(run.err, AllOf(HasSubstr("?[2Jboo"), HasSubstr("X Y (k=?)")));
}

TEST_F(TscctlTest, ColourAndProgressAreForTerminals) {
  environment_.stdout_is_terminal = true;
  environment_.stderr_is_terminal = true;
  const Outcome colour = Handoff();
  EXPECT_THAT(colour.out, HasSubstr("\x1b["));
  EXPECT_THAT(colour.err,
              AllOf(HasSubstr("capture on the source"), HasSubstr("apply on the destination")));
  environment_.variables["NO_COLOR"] = "1";
  const Outcome plain = Handoff();
  EXPECT_THAT(plain.out + plain.err, Not(HasSubstr("\x1b[")));
  EXPECT_THAT(plain.err, HasSubstr("capture on the source"));
  EXPECT_THAT(Handoff({"-o", "json"}).err, IsEmpty());
}

TEST_F(TscctlTest, OutputThatCannotBeWrittenIsAFailure) {
  std::ofstream full("/dev/full");
  std::ostringstream err;
  EXPECT_EQ(RunTscctl({"host"}, full, err, environment_), 5);
  EXPECT_THAT(err.str(), HasSubstr("could not be written"));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
