// The command lines of `tscctl top` and `tscctl watch`; what they do is tested beside their code
// and in tests/tscctl.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "client/tscctl/options.h"
#include "client/tscctl/tscctl_testing.h"

namespace tsc_handoff::tscctl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Options Parsed(const std::vector<std::string>& args) {
  auto parsed = ParseOptions(args, {{"TSC_AGENT", "default:1"}});
  const auto* options = std::get_if<Options>(&parsed);
  EXPECT_NE(options, nullptr);
  return options != nullptr ? *options : Options();
}

std::string Problem(const std::vector<std::string>& args) {
  const auto parsed = ParseOptions(args, {});
  const auto* error = std::get_if<UsageError>(&parsed);
  EXPECT_NE(error, nullptr);
  return error != nullptr ? error->message : "";
}

TEST(FollowOptionsTest, AgentsAreGivenInEveryWayAndOnce) {
  EXPECT_THAT(Parsed({"top"}).agents, ElementsAre("default:1"));
  EXPECT_THAT(Parsed({"--agent", "a:1", "top"}).agents, ElementsAre("a:1"));
  EXPECT_THAT(Parsed({"top", "--agent", "a:1", "b:1"}).agents, ElementsAre("a:1", "b:1"));
  EXPECT_THAT(Parsed({"watch", "--agent", "a:1,b:1", "--agent", "c:1,a:1"}).agents,
              ElementsAre("a:1", "b:1", "c:1"));
}

TEST(FollowOptionsTest, WatchTakesJsonInBothWays) {
  EXPECT_TRUE(Parsed({"watch", "--json"}).json);
  EXPECT_TRUE(Parsed({"watch", "-o", "json"}).json);
  EXPECT_FALSE(Parsed({"watch", "--vm", "vm1"}).json);
  EXPECT_EQ(Parsed({"watch", "--interval", "250ms"}).interval, absl::Milliseconds(250));
}

TEST(FollowOptionsTest, WhatCannotBeIsRefused) {
  EXPECT_THAT(Problem({"top", "-o", "json"}), HasSubstr("tscctl watch --json"));
  EXPECT_THAT(Problem({"top", "--interval", "1ms"}), HasSubstr("is not from 100ms to 1h"));
  EXPECT_THAT(Problem({"watch", "--agent", "nowhere"}), HasSubstr("has no port"));
  EXPECT_THAT(Problem({"watch", "--vm", "a b"}), HasSubstr("VM id \"a b\""));
}

TEST(FollowOptionsTest, WithoutATerminalTopSaysWhatToUse) {
  const Outcome outcome = Tscctl({"top"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("draws on a terminal"), HasSubstr("tscctl watch")));
}

TEST(FollowOptionsTest, HelpTeaches) {
  EXPECT_THAT(Tscctl({"top", "--help"}).out,
              AllOf(HasSubstr("Keys: Tab"), HasSubstr("--interval"), HasSubstr("NO_COLOR=1")));
  EXPECT_THAT(Tscctl({"watch", "--help"}).out,
              AllOf(HasSubstr("agent_lost"), HasSubstr("--json"), HasSubstr("jq")));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
