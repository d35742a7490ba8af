// `tscctl migrate-qemu` up to the monitors: what a command line may say, and who is not there. What
// it does with two QEMUs stands in client/qmp and in tests/qemu.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/tscctl/tscctl_testing.h"

namespace tsc_handoff::tscctl {
namespace {

using ::testing::HasSubstr;

class TscctlMigrateQemuTest : public TscctlTest {
 protected:
  Outcome Migrate(const std::vector<std::string>& more,
                  const std::string& from_qmp = "unix:/nonexistent/from") {
    std::vector<std::string> words = {"migrate-qemu", "--from-qmp",  from_qmp,
                                      "--to-qmp",     "127.0.0.1:1", "--migrate-uri",
                                      "tcp:there:1",  "--timeout=2s"};
    words.insert(words.end(), more.begin(), more.end());
    return Do(words);
  }
  std::vector<std::string> Agents() {
    return {"--from", source_.target(), "--to", destination_.target(), "--vm", "vm1"};
  }
};

TEST_F(TscctlMigrateQemuTest, WhatMakesNoSenseIsRefusedBeforeAnybodyIsAsked) {
  struct Row {
    std::vector<std::string> words;
    const char* why;
  };
  for (const Row& row :
       {Row{{}, "--from, --to and --vm are required"},
        Row{{"--plain", "--vm", "vm1"}, "--plain asks no agent"},
        Row{{"--plain", "--from", "a:1"}, "--plain asks no agent"},
        Row{{"--from", "a:1", "--to", "b:1", "--vm", "no/id"}, "has a character other than"},
        Row{{"--from", "a:1", "--to", "b:1", "--vm", "vm1", "--validate-only"},
            "--validate-only is for"},
        Row{{"--from", "a:1", "--to", "b:1", "--vm", "vm1", "--id", "a b"},
            "has a character other than"}}) {
    const Outcome outcome = Migrate(row.words);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(row.why));
    EXPECT_THAT(outcome.err, HasSubstr("tscctl migrate-qemu --help"));
  }
  EXPECT_EQ(Migrate({"--plain"}, "host1:4444").exit_code, 2);
  EXPECT_THAT(Migrate({"--plain"}, "host1:4444").err, HasSubstr("QMP has no authentication"));
  EXPECT_THAT(Migrate({"--plain"}, "127.0.0.1:1").err, HasSubstr("are the same monitor"));
  EXPECT_EQ(source_.CallCount("GetHostInfo"), 0);
}

TEST_F(TscctlMigrateQemuTest, AMonitorThatIsNotThereChangesNothing) {
  for (std::vector<std::string> words : {std::vector<std::string>{"--plain"}, Agents()}) {
    words.insert(words.end(), {"-o", "json"});
    const Outcome outcome = Migrate(words);
    EXPECT_EQ(outcome.exit_code, 3);
    EXPECT_THAT(outcome.err, HasSubstr("\"reason\": \"MONITOR_UNREACHABLE\""));
    EXPECT_THAT(outcome.err, HasSubstr("unix:/nonexistent/from"));
    EXPECT_THAT(outcome.err, HasSubstr("Nothing was changed."));
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_EQ(source_.CallCount("GetTscState"), 0);
}

TEST_F(TscctlMigrateQemuTest, TheHelpTeachesIt) {
  const Outcome outcome = Do({"migrate-qemu", "--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* words : {"-S -incoming tcp:", "--migrate-uri", "--keep-source", "kvmclock",
                            "Ctrl-C", "added_downtime_ms", "docs/qemu.md"})
    EXPECT_THAT(outcome.out, HasSubstr(words));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
