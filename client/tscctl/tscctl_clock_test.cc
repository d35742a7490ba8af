// `tscctl clock` from its arguments to its output and exit code.
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
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Json = nlohmann::json;
using Verdict = v1::CompareClocksResponse;

constexpr int64_t kMs = 1'000'000;

class TscctlClockTest : public TscctlTest {
 protected:
  TscctlClockTest() {
    source_.EditHost([](v1::HostInfo& host) { host.set_host_name("node1"); });
    destination_.EditHost([](v1::HostInfo& host) {
      host.set_host_name("node2");
      host.set_peer_address("10.0.0.2:50051");
    });
  }

  Outcome Compare(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"clock", source_.target(), destination_.target()};
    args.insert(args.end(), more.begin(), more.end());
    return Do(args);
  }

  v1::CompareClocksResponse Answer(Verdict::Verdict verdict) {
    v1::CompareClocksResponse answer;
    answer.set_verdict(verdict);
    for (v1::ClockInfo* clock : {answer.mutable_local(), answer.mutable_peer()}) {
      clock->set_trusted(true);
      clock->set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
      clock->set_error_bound_ns(20'000);
      clock->set_source("chrony");
      clock->set_age_ns(1'200 * kMs);
    }
    answer.mutable_probe()->set_offset_error_ns(300);
    answer.mutable_probe()->set_round_trip_ns(650);
    answer.mutable_probe()->set_rounds(8);
    answer.mutable_probe()->set_duration_ns(20'000);
    return answer;
  }
};

TEST_F(TscctlClockTest, OneClockShowsWhatItIsWorth) {
  const struct {
    const char* name;
    std::function<void(v1::ClockInfo&)> edit;
    std::vector<std::string> says;
    std::vector<std::string> keeps_quiet;
  } kRows[] = {
      {"good",
       [](v1::ClockInfo&) {},
       {"clock trusted  yes\n", "clock status   synchronised\n", "clock error    +-20.0 us\n",
        "clock source   kernel, last word 1.200 s ago\n", "TAI - UTC      37 s\n",
        "leap second    none near\n", "clock read     2023-11-14 22:13:20.000 UTC\n"},
       {"not known"}},
      {"free-running",
       [](v1::ClockInfo& clock) { clock.set_status(v1::ClockInfo::STATUS_FREE_RUNNING); },
       {"clock trusted  yes\n", "free-running: its source is silent", "+-20.0 us"},
       {}},
      {"stepped",
       [](v1::ClockInfo& clock) {
         clock.set_trusted(false);
         clock.set_untrusted_reason("it was stepped by 300 ms");
         clock.set_status(v1::ClockInfo::STATUS_DISRUPTED);
       },
       {"clock trusted  no: it was stepped by 300 ms\n", "disrupted: it was stepped"},
       {"clock error"}},
      {"nothing known",
       [](v1::ClockInfo& clock) {
         clock.Clear();
         clock.set_leap_second(true);
       },
       {"clock trusted  no\n", "clock status   unknown\n", "none, last word never\n",
        "TAI - UTC      not known", "leap second    pending"},
       {"clock error", "clock read"}},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    source_.EditHost([&](v1::HostInfo& host) {
      host.mutable_clock()->set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
      row.edit(*host.mutable_clock());
    });
    const Outcome run = Do({"clock"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr("node1"));
    for (const std::string& text : row.says) EXPECT_THAT(run.out, HasSubstr(text));
    for (const std::string& text : row.keeps_quiet) EXPECT_THAT(run.out, Not(HasSubstr(text)));
    // `host` says the same of the clock.
    if (row.keeps_quiet.empty()) continue;
    EXPECT_THAT(Do({"host"}).out, Not(HasSubstr(row.keeps_quiet.front())));
  }
}

TEST_F(TscctlClockTest, OneClockAsJson) {
  const Json good = Json::parse(Do({"clock", "-o", "json"}).out);
  EXPECT_EQ(good["agent"], source_.target());
  EXPECT_EQ(good["host_name"], "node1");
  EXPECT_EQ(good["trusted"], true);
  EXPECT_EQ(good["status"], "STATUS_SYNCHRONISED");
  EXPECT_EQ(good["error_bound_ns"], 20'000);
  EXPECT_EQ(good["age_ns"], 1'200 * kMs);
  EXPECT_EQ(good["tai_offset_s"], 37);
  source_.EditHost([](v1::HostInfo& host) { host.mutable_clock()->set_trusted(false); });
  EXPECT_TRUE(Json::parse(Do({"clock", "-o", "json"}).out)["error_bound_ns"].is_null());
}

TEST_F(TscctlClockTest, ClocksThatAgreeExitWith0) {
  const Outcome run = Compare();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, IsEmpty());
  EXPECT_EQ(run.out,
            "HOST   TRUSTED  STATUS           CLAIMS       STATED  SOURCE\n"
            "node1  yes      synchronised  +-20.0 us  1.200 s ago  kernel\n"
            "node2  yes      synchronised  +-20.0 us  1.200 s ago  kernel\n"
            "\n"
            "measured    node1 is 1.5 us +-300 ns ahead of node2\n"
            "allowed     +-40.3 us: both claims and the measurement's own error\n"
            "round trip  650 ns, the shortest of 8 rounds in 20.0 us\n"
            "probed at   10.0.0.2:50051\n"
            "\n"
            "The clocks agree: both claims and the measurement can all be true.\n");
}

TEST_F(TscctlClockTest, WhatKeepsAVerdictFromBeingGoodExitsWith1AndIsShownAllTheSame) {
  v1::CompareClocksResponse apart = Answer(Verdict::VERDICT_DISAGREE);
  apart.mutable_probe()->set_offset_ns(-300 * kMs);
  v1::CompareClocksResponse silent = Answer(Verdict::VERDICT_NO_CLAIM);
  silent.mutable_peer()->set_trusted(false);
  silent.mutable_peer()->set_status(v1::ClockInfo::STATUS_FREE_RUNNING);
  silent.mutable_peer()->set_untrusted_reason("chronyd does not answer");
  const v1::CompareClocksResponse newer = Answer(static_cast<Verdict::Verdict>(77));
  const struct {
    const v1::CompareClocksResponse& answer;
    std::vector<std::string> out;
    const char* reason;
    const char* err;
  } kRows[] = {
      {apart,
       {"node1 is 300.000 ms +-300 ns behind node2", "at least 299.960 ms further apart"},
       "CLOCKS_DISAGREE",
       "the clocks of node1 and node2 disagree"},
      {silent,
       {"node2  no       free-running          -  1.200 s ago",
        "not trusted (node2): chronyd does not answer",
        "No verdict: node2 cannot say how wrong its clock may be."},
       "CLOCK_UNTRUSTED",
       "the clock of node2 is not trusted"},
      {newer, {"No verdict that this tscctl knows."}, "UNKNOWN", "verdict that this tscctl does"},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.reason);
    source_.SetComparison(row.answer);
    const Outcome run = Compare();
    EXPECT_EQ(run.exit_code, 1);
    for (const std::string& text : row.out) EXPECT_THAT(run.out, HasSubstr(text));
    EXPECT_THAT(run.err, AllOf(StartsWith("tscctl: clock " + source_.target() + " "),
                               HasSubstr(row.err), HasSubstr(row.reason), HasSubstr("\nnext: ")));
    const Outcome json = Compare({"-o", "json"});
    EXPECT_EQ(json.exit_code, 1);
    EXPECT_TRUE(Json::parse(json.out).contains("verdict"));
    EXPECT_EQ(Json::parse(json.err)["error"]["reason"], row.reason);
  }
}

TEST_F(TscctlClockTest, ComparisonJsonHasEveryDocumentedField) {
  v1::CompareClocksResponse answer = Answer(Verdict::VERDICT_NO_CLAIM);
  answer.mutable_probe()->set_offset_ns(-5);
  answer.mutable_local()->set_trusted(false);
  source_.SetComparison(answer);
  const Json json = Json::parse(Compare({"-o", "json"}).out);
  const std::string help = Tscctl({"clock", "--help"}).out;
  for (const Json* object : {&json, &json["probe"], &json["local"]}) {
    for (const auto& [key, value] : object->items()) EXPECT_THAT(help, HasSubstr(key));
  }
  EXPECT_EQ(json["verdict"], "VERDICT_NO_CLAIM");
  EXPECT_THAT(json["text"].get<std::string>(), HasSubstr("node1"));
  EXPECT_EQ(json["probe"], Json({{"offset_ns", -5},
                                 {"offset_error_ns", 300},
                                 {"round_trip_ns", 650},
                                 {"rounds", 8},
                                 {"duration_ns", 20'000}}));
  EXPECT_TRUE(json["allowed_ns"].is_null());
  EXPECT_EQ(json["probed_at"], "10.0.0.2:50051");
  EXPECT_TRUE(json["local"]["error_bound_ns"].is_null());
  EXPECT_EQ(json["peer"]["error_bound_ns"], 20'000);
  EXPECT_EQ(json["peer"]["host_name"], "node2");
  source_.SetComparison(Answer(Verdict::VERDICT_AGREE));
  EXPECT_EQ(Json::parse(Compare({"-o", "json"}).out)["allowed_ns"], 40'300);
}

TEST_F(TscctlClockTest, ThePeerIsProbedWhereItSaysUnlessToldOtherwise) {
  const struct {
    const char* says;  // of itself
    std::vector<std::string> options;
    std::string probed;
  } kRows[] = {
      {"10.0.0.2:50051", {}, "10.0.0.2:50051"},
      {"", {}, destination_.target()},
      {"10.0.0.2:50051", {"--peer", "10.9.9.9:1"}, "10.9.9.9:1"},
      {"", {"--peer", "10.9.9.9:1"}, "10.9.9.9:1"},
  };
  for (const auto& row : kRows) {
    destination_.EditHost([&](v1::HostInfo& host) { host.set_peer_address(row.says); });
    EXPECT_EQ(Compare(row.options).exit_code, 0);
    EXPECT_EQ(source_.LastPeer(), row.probed);
    EXPECT_EQ(destination_.CallCount("CompareClocks"), 0);
  }
}

TEST_F(TscctlClockTest, APeerThatOnlyThisHostCanNameIsAUsageError) {
  destination_.EditHost([](v1::HostInfo& host) { host.clear_peer_address(); });
  // Reachable from here, but not by that name from elsewhere.
  const std::string local_name = "ipv4:" + destination_.target();
  const Outcome run = Do({"clock", source_.target(), local_name});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err,
              AllOf(HasSubstr("cannot be told where to probe " + local_name),
                    HasSubstr("next: Say with --peer HOST:PORT"), HasSubstr("--peer-address")));
  EXPECT_EQ(source_.CallCount("CompareClocks"), 0);
  EXPECT_EQ(Do({"clock", source_.target(), local_name, "--peer", "h:1"}).exit_code, 0);
}

TEST_F(TscctlClockTest, APeerThatCannotBeAskedFromHereNeedsAnAddress) {
  destination_.Stop();
  const Outcome run = Compare();
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.err, AllOf(HasSubstr("AGENT_UNREACHABLE"), HasSubstr("--peer HOST:PORT")));
  const Outcome named = Compare({"--peer", "10.0.0.2:50051"});
  EXPECT_EQ(named.exit_code, 0) << named.err;
  EXPECT_THAT(named.out, HasSubstr("node1 is 1.5 us +-300 ns ahead of " + destination_.target()));
  EXPECT_TRUE(
      Json::parse(Compare({"--peer", "10.0.0.2:50051", "-o", "json"}).out)["peer"]["host_name"]
          .is_null());
}

TEST_F(TscctlClockTest, FailuresSayWhatToDo) {
  source_.FailNext("CompareClocks", {absl::StatusCode::kUnavailable,
                                     "no answer within 250 ms",
                                     "PEER_UNREACHABLE",
                                     {{"peer", "10.0.0.2:50051"}, {"next_step", "Look."}}});
  const Outcome unreachable = Compare();
  EXPECT_EQ(unreachable.exit_code, 1);
  EXPECT_THAT(unreachable.err,
              AllOf(HasSubstr("reason: PEER_UNREACHABLE (peer=10.0.0.2:50051)"),
                    HasSubstr("next: Look whether a tsc-agent answers at 10.0.0.2:50051 from"),
                    HasSubstr("--peer HOST:PORT")));
  source_.FailNext("CompareClocks", {absl::StatusCode::kUnimplemented, "no such method", "", {}});
  EXPECT_THAT(Compare().err, HasSubstr("next: The server there is no tsc-agent, or an older one"));
  source_.Stop();
  EXPECT_EQ(Compare().exit_code, 3);
  EXPECT_EQ(Do({"clock"}).exit_code, 3);
}

TEST_F(TscctlClockTest, HostileNamesStayText) {
  source_.EditHost([](v1::HostInfo& host) { host.set_host_name("\x1b[2Jnode"); });
  v1::CompareClocksResponse answer = Answer(Verdict::VERDICT_NO_CLAIM);
  answer.mutable_local()->set_trusted(false);
  answer.mutable_local()->set_untrusted_reason("a\nb\x07");
  answer.mutable_local()->set_source("\x1b]0;x");
  source_.SetComparison(answer);
  const Outcome run = Compare();
  EXPECT_THAT(run.out + run.err, AllOf(HasSubstr("?[2Jnode"), HasSubstr("a b?"), HasSubstr("?]0;x"),
                                       Not(HasSubstr("\x1b"))));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
