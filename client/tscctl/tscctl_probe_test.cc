// What `tscctl handoff` and `tscctl set` have measured of the source's clock, and how they tell by
// what elapsed time was reckoned.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/tscctl/tscctl_testing.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

using Json = nlohmann::json;

class TscctlProbeTest : public TscctlTest {
 protected:
  TscctlProbeTest() {
    source_.EditHost([](v1::HostInfo& host) { host.set_peer_address("10.0.0.1:50051"); });
  }

  Outcome Set(const std::vector<std::string>& more = {}) {
    EXPECT_EQ(Do({"get", "vm1", "--out", file_, "--force"}).exit_code, 0);
    std::vector<std::string> args = {"set",  "vm1", "--agent", destination_.target(),
                                     "--in", file_, "--mode",  "elapsed"};
    args.insert(args.end(), more.begin(), more.end());
    return Do(args);
  }
};

TEST_F(TscctlProbeTest, WhoIsProbedIsUpToTheOptions) {
  const struct {
    std::vector<std::string> options;
    const char* sent;
  } kRows[] = {
      {{}, "10.0.0.1:50051"},
      {{"--source-agent", "10.9.9.9:1"}, "10.9.9.9:1"},
      {{"--no-probe"}, ""},
      {{"--mode", "exact"}, ""},
  };
  for (const auto& row : kRows) {
    ASSERT_EQ(Handoff(row.options).exit_code, 0);
    EXPECT_EQ(destination_.LastSetRequest().source_agent(), row.sent);
  }
  ASSERT_EQ(Set().exit_code, 0);
  EXPECT_EQ(destination_.LastSetRequest().source_agent(), "");
  ASSERT_EQ(Set({"--source-agent", "10.9.9.9:1"}).exit_code, 0);
  EXPECT_EQ(destination_.LastSetRequest().source_agent(), "10.9.9.9:1");
}

TEST_F(TscctlProbeTest, ForPeopleTheWayOfReckoningIsInWords) {
  const auto nothing = [](v1::SetTscStateResponse&) {};
  const struct {
    std::vector<std::string> options;
    std::function<void(v1::SetTscStateResponse&)> edit;
    std::vector<std::string> says;
    std::vector<std::string> keeps_quiet;
  } kRows[] = {
      {{},
       nothing,
       {"reckoned by  clocks and probe: ",
        "probe        the destination's clock is 1.5 us +-300 ns ahead of the source's; round trip "
        "650 ns, 8 rounds\n",
        "error bound  +-500 ns = probe 400 ns, rate 100 ns\n"},
       {"waited", "rate error", "were believed", "clocks 0 ns"}},
      {{"--no-probe"},
       nothing,
       {"reckoned by  clocks: ", "+-40.3 us = clocks 20.0 us + 20.0 us, rate 300 ns\n",
        "warning (destination): the two hosts' clocks were believed"},
       {"\nprobe"}},
      {{},
       [](v1::SetTscStateResponse& apply) {
         apply.mutable_probe()->set_offset_ns(-2'000'000);
         apply.mutable_probe()->set_rounds(1);
         apply.set_commit_wait_ns(1'500'000);
         apply.set_rate_error_ppm(-12.345678);
       },
       {"clock is 2.000 ms +-300 ns behind the source's", "650 ns, 1 round\n",
        "waited       1.500 ms, until it was certain that time had passed\n",
        "rate error   -12.35 ppm: KVM does not scale here"},
       {}},
      {{},
       [](v1::SetTscStateResponse& apply) { apply.set_elapsed_basis(v1::ELAPSED_BASIS_CLOCKS); },
       {"reckoned by  clocks: what both hosts claim of theirs, and the probe bears out\n",
        "\nprobe"},
       {}},
      {{},
       [](v1::SetTscStateResponse& apply) {
         apply.set_elapsed_basis(static_cast<v1::ElapsedBasis>(77));
       },
       {"reckoned by  the agent does not say"},
       {}},
      {{"--mode", "exact"},
       nothing,
       {"elapsed      0: guest time goes on from the captured values"},
       {"reckoned by", "error bound", "\nprobe"}},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.says.front());
    destination_.EditNextApply(row.edit);
    const Outcome run = Handoff(row.options);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    for (const std::string& text : row.says) EXPECT_THAT(run.out, HasSubstr(text));
    for (const std::string& text : row.keeps_quiet) EXPECT_THAT(run.out, Not(HasSubstr(text)));
  }
}

TEST_F(TscctlProbeTest, OnOneHostItsTscTellsTheTime) {
  std::string boot_id;
  source_.EditHost([&](v1::HostInfo& host) { boot_id = host.boot_id(); });
  destination_.EditHost([&](v1::HostInfo& host) { host.set_boot_id(boot_id); });
  const Outcome handoff = Handoff();
  EXPECT_EQ(destination_.LastSetRequest().source_agent(), "");
  for (const std::string& out : {handoff.out, Set().out}) {
    EXPECT_THAT(out, AllOf(HasSubstr("reckoned by  this host's TSC: "),
                           HasSubstr("error bound  +-0 ns\n"), Not(HasSubstr("probe"))));
  }
  const Json json = Json::parse(Handoff({"-o", "json"}).out);
  EXPECT_EQ(json["elapsed_basis"], "ELAPSED_BASIS_SAME_HOST_TSC");
  EXPECT_TRUE(json["source_agent"].is_null());
}

TEST_F(TscctlProbeTest, HandoffJsonTellsTheProbe) {
  destination_.EditNextApply([](v1::SetTscStateResponse& apply) {
    apply.set_commit_wait_ns(1'500'000);
    apply.set_rate_error_ppm(12.5);
  });
  const Json json = Json::parse(Handoff({"-o", "json"}).out);
  EXPECT_EQ(json["elapsed_basis"], "ELAPSED_BASIS_CLOCKS_AND_PROBE");
  EXPECT_EQ(json["commit_wait_ns"], 1'500'000);
  EXPECT_EQ(json["rate_error_ppm"], 12.5);
  EXPECT_EQ(json["source_agent"], "10.0.0.1:50051");
  EXPECT_EQ(json["probe"], Json({{"offset_ns", 1'500},
                                 {"offset_error_ns", 300},
                                 {"round_trip_ns", 650},
                                 {"rounds", 8},
                                 {"duration_ns", 20'000}}));
  EXPECT_EQ(json["error_bound"]["probe_ns"], 400);
  const std::string help = Tscctl({"handoff", "--help"}).out;
  for (const auto& [key, value] : json["probe"].items()) EXPECT_THAT(help, HasSubstr(key));

  const Json believed = Json::parse(Handoff({"-o", "json", "--no-probe"}).out);
  EXPECT_EQ(believed["elapsed_basis"], "ELAPSED_BASIS_CLOCKS");
  EXPECT_TRUE(believed["probe"].is_null());
  EXPECT_THAT(believed["warnings"],
              Contains(Json({{"side", "destination"},
                             {"code", "CODE_CLOCKS_NOT_PROBED"},
                             {"message", "the two hosts' clocks were believed"}})));
}

TEST_F(TscctlProbeTest, SetJsonSaysNullWhereThereIsNothing) {
  const Json probed = Json::parse(Set({"-o", "json", "--source-agent", "10.0.0.1:50051"}).out);
  EXPECT_EQ(probed["elapsed_basis"], "ELAPSED_BASIS_CLOCKS_AND_PROBE");
  EXPECT_EQ(probed["commit_wait_ns"], "0");
  EXPECT_EQ(probed["rate_error_ppm"], 0);
  EXPECT_EQ(probed["probe"]["offset_ns"], "1500");
  EXPECT_EQ(probed["error_bound"]["probe_ns"], "400");
  const Json believed = Json::parse(Set({"-o", "json", "--allow-untrusted-clock"}).out);
  EXPECT_TRUE(believed.at("probe").is_null());
  EXPECT_TRUE(believed.at("error_bound").is_null());
  const std::string help = Tscctl({"set", "--help"}).out;
  for (const char* field : {"elapsed_basis", "commit_wait_ns", "rate_error_ppm", "probe", "null"})
    EXPECT_THAT(help, HasSubstr(field));
}

TEST_F(TscctlProbeTest, RefusalsAboutTheProbeNameTheOption) {
  const client::FakeError unreachable = {absl::StatusCode::kUnavailable,
                                         "no answer",
                                         "PEER_UNREACHABLE",
                                         {{"peer", "10.0.0.1:50051"}, {"next_step", "Look."}}};
  const client::FakeError required = {
      absl::StatusCode::kInvalidArgument,
      "source_agent is required",
      "REQUEST_INVALID",
      {{"field", "source_agent"}, {"next_step", "Correct the request."}}};
  const client::FakeError other = {absl::StatusCode::kInvalidArgument,
                                   "mode is required",
                                   "REQUEST_INVALID",
                                   {{"field", "mode"}, {"next_step", "Correct the request."}}};
  const struct {
    const client::FakeError& error;
    bool handoff;
    std::vector<std::string> says;
  } kRows[] = {
      {unreachable, true, {"PEER_UNREACHABLE (peer=10.0.0.1", "--source-agent", "With --no-probe"}},
      {unreachable, false, {"next: Name the source's agent", "Without that option"}},
      {required, true, {"with --source-agent HOST:PORT, or start it with --peer-address"}},
      {required, false, {"with --source-agent HOST:PORT.\n"}},
      {other, true, {"next: Correct the request.\n"}},
  };
  for (const auto& row : kRows) {
    destination_.FailNext("SetTscState", row.error);
    const Outcome run = row.handoff ? Handoff() : Set();
    EXPECT_EQ(run.exit_code, 1);
    for (const std::string& text : row.says) EXPECT_THAT(run.err, HasSubstr(text));
  }
}

TEST_F(TscctlProbeTest, ClocksThatDisagreeAreRefusedByName) {
  destination_.FailNext("SetTscState", {absl::StatusCode::kFailedPrecondition,
                                        "the clocks are 300 ms apart",
                                        "CLOCKS_DISAGREE",
                                        {{"next_step", "Find out which is wrong."}}});
  const Outcome run = Handoff();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err,
              AllOf(HasSubstr("reason: CLOCKS_DISAGREE"), HasSubstr("state: Aborted: VM vm1"),
                    HasSubstr("next: Find out which is wrong.")));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
