#include "server/agent/reconfiguration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "server/base/error.h"

namespace tsc_handoff::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ReconfigurationTest : public ::testing::Test {
 protected:
  ReconfigurationTest() {
    char name[] = "/tmp/reconfigurationXXXXXX";
    close(mkstemp(name));
    path_ = name;
  }
  ~ReconfigurationTest() override { unlink(path_.c_str()); }

  void WriteFile(const std::string& text) { std::ofstream(path_) << text; }

  std::string path_;
};

TEST_F(ReconfigurationTest, WhatMayChangeTakesEffectAndTheRestIsNamed) {
  WriteFile("max-error: 1ms\nlisten: [127.0.0.1:1]\nlog-level: warn\n");
  const std::vector<std::string> arguments = {"--config", path_, "--max-elapsed", "1m"};
  const CommandLine first = ParseCommandLine(arguments);
  ASSERT_EQ(first.message, "");
  EXPECT_EQ(first.log_level, "warn");
  std::vector<CommandLine> applied;
  Reconfiguration configuration(arguments, first,
                                [&](const CommandLine& line) { applied.push_back(line); });

  auto reloaded = configuration.Reload();
  ASSERT_TRUE(reloaded.ok());
  EXPECT_THAT(reloaded->changed, IsEmpty());
  EXPECT_THAT(reloaded->needs_restart, IsEmpty());

  // The flag of --max-elapsed goes on to override the file.
  WriteFile("max-error: 2ms\nlisten: [127.0.0.1:2]\nmax-elapsed: 7m\n");
  for (int i = 0; i < 2; ++i) {
    reloaded = configuration.Reload();
    ASSERT_TRUE(reloaded.ok()) << reloaded.status();
    if (i == 0) {
      EXPECT_THAT(reloaded->changed, ElementsAre("log-level:", "max-error: 2ms"));
    } else {
      EXPECT_THAT(reloaded->changed, IsEmpty());
    }
    EXPECT_THAT(reloaded->needs_restart, ElementsAre("listen: 127.0.0.1:2"));
    EXPECT_EQ(applied.back().options.limits.max_error_ns, 2'000'000);
    EXPECT_EQ(applied.back().options.limits.max_elapsed_ns, 60'000'000'000);
    EXPECT_EQ(applied.back().log_level, "info");
  }
}

TEST_F(ReconfigurationTest, AFaultyFileChangesNothingAndIsSaidWithItsLine) {
  WriteFile("max-error: 1ms\n");
  const std::vector<std::string> arguments = {"--config", path_};
  int applied = 0;
  Reconfiguration configuration(arguments, ParseCommandLine(arguments),
                                [&](const CommandLine&) { ++applied; });
  WriteFile("max-error: 2ms\nmax-elapsed: never\n");
  const auto reloaded = configuration.Reload();
  EXPECT_EQ(ReasonOf(reloaded.status()), Reason::kConfigInvalid);
  EXPECT_THAT(std::string(reloaded.status().message()),
              HasSubstr(path_ + ":2: max-elapsed: \"never\" is no duration"));
  EXPECT_EQ(applied, 0);
}

// The same file with another content is a change, and needs no --config.
TEST_F(ReconfigurationTest, APolicyIsReadAgainAndAFaultyOneChangesNothing) {
  WriteFile("bindings: [{role: admin, users: 0}]\n");
  const std::vector<std::string> arguments = {"--policy", path_};
  const CommandLine first = ParseCommandLine(arguments);
  ASSERT_EQ(first.message, "");
  ASSERT_NE(first.options.policy, nullptr);
  EXPECT_EQ(first.options.policy->bindings.size(), 1u);
  std::vector<CommandLine> applied;
  Reconfiguration configuration(arguments, first,
                                [&](const CommandLine& line) { applied.push_back(line); });
  auto reloaded = configuration.Reload();
  ASSERT_TRUE(reloaded.ok()) << reloaded.status();
  EXPECT_THAT(reloaded->changed, IsEmpty());

  WriteFile("bindings: [{role: admin, users: 0}, {role: viewer, anonymous: true}]\n");
  reloaded = configuration.Reload();
  ASSERT_TRUE(reloaded.ok()) << reloaded.status();
  EXPECT_THAT(reloaded->changed,
              ElementsAre(HasSubstr("policy: " + path_ + " (2 bindings, digest ")));
  EXPECT_THAT(reloaded->needs_restart, IsEmpty());
  EXPECT_EQ(applied.back().options.policy->bindings.size(), 2u);

  const size_t times = applied.size();
  WriteFile("bindings:\n  - {role: boss, users: 0}\n");
  reloaded = configuration.Reload();
  EXPECT_EQ(ReasonOf(reloaded.status()), Reason::kConfigInvalid);
  EXPECT_THAT(std::string(reloaded.status().message()), HasSubstr(path_ + ":2: role: one of"));
  EXPECT_EQ(applied.size(), times);
}

TEST_F(ReconfigurationTest, WithoutAFileThereIsNothingToRead) {
  Reconfiguration configuration({}, ParseCommandLine({}), [](const CommandLine&) {});
  EXPECT_EQ(ReasonOf(configuration.Reload().status()), Reason::kConfigInvalid);
}

TEST_F(ReconfigurationTest, ThePrintedConfigurationIsAccepted) {
  const CommandLine printed = ParseCommandLine({"--print-config"});
  EXPECT_EQ(printed.exit_code, 0);
  EXPECT_THAT(printed.message, HasSubstr("\n#max-error: 1ms\n"));
  WriteFile(printed.message);
  const CommandLine read = ParseCommandLine({"--config", path_});
  EXPECT_EQ(read.message, "");
  EXPECT_EQ(read.given.size(), 1u);
  // Every default is a value that is accepted, too.
  std::string all;
  for (size_t at = 0; at < printed.message.size();) {
    const size_t end = printed.message.find('\n', at);
    std::string line = printed.message.substr(at, end - at);
    const bool setting = line.size() > 2 && line[0] == '#' && line[1] != ' ';
    if (setting && line.back() != ':') all += line.substr(1) + "\n";
    at = end + 1;
  }
  WriteFile(all);
  EXPECT_EQ(ParseCommandLine({"--config", path_}).message, "") << all;
}

}  // namespace
}  // namespace tsc_handoff::agent
