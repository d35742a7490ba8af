// Contexts, as a user has them: what a file gives, what is said of a faulty one, how the current
// one is changed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tscctl/options.h"
#include "client/tscctl/tscctl_testing.h"

namespace tsc_handoff::tscctl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kFile[] =
    "# Ours.\n"
    "current-context: lab   # since Monday\n"
    "contexts:\n"
    "  lab:\n"
    "    agent: host1\n"
    "    timeout: 7s\n"
    "    hosts:\n"
    "      host1: 10.0.0.1:50051\n"
    "      host2: 10.0.0.2:50051\n"
    "  far:\n"
    "    agent: 10.9.0.1:1\n"
    "    output: json\n"
    "  bare:\n";

class ContextsTest : public TscctlTest {
 protected:
  ContextsTest() : path_(absl::StrCat(directory_, "/contexts.yaml")) {
    Write(kFile);
    environment_.variables = {{"TSCCTL_CONFIG", path_}};
  }

  void Write(const std::string& text) { std::ofstream(path_) << text; }

  std::string Text() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  Options Parsed(const std::vector<std::string>& args) {
    auto parsed = ParseOptions(args, environment_.variables);
    const auto* options = std::get_if<Options>(&parsed);
    EXPECT_NE(options, nullptr);
    return options != nullptr ? *options : Options();
  }

  std::string path_;
};

TEST_F(ContextsTest, TheCommandLineCountsBeforeTheEnvironmentAndThatBeforeTheContext) {
  EXPECT_EQ(Parsed({"vms"}).agent, "10.0.0.1:50051");
  EXPECT_EQ(Parsed({"vms"}).timeout, absl::Seconds(7));
  EXPECT_EQ(Parsed({"--timeout", "1s", "vms"}).timeout, absl::Seconds(1));
  EXPECT_EQ(Parsed({"--context", "far", "vms"}).agent, "10.9.0.1:1");
  EXPECT_TRUE(Parsed({"--context", "far", "vms"}).json);
  EXPECT_EQ(Parsed({"--context", "bare", "vms"}).agent, "unix:/run/tsc-handoff/agent.sock");
  EXPECT_EQ(Parsed({"--agent", "host2", "vms"}).agent, "10.0.0.2:50051");
  environment_.variables["TSC_AGENT"] = "host2";
  EXPECT_EQ(Parsed({"vms"}).agent, "10.0.0.2:50051");
  EXPECT_EQ(Parsed({"--agent", "[::1]:1", "vms"}).agent, "[::1]:1");
}

TEST_F(ContextsTest, AHostsNameStandsWhereverAnAddressMay) {
  const Options handoff = Parsed({"handoff", "vm1", "--from", "host1", "--to", "host2"});
  EXPECT_EQ(handoff.from, "10.0.0.1:50051");
  EXPECT_EQ(handoff.to, "10.0.0.2:50051");
  EXPECT_THAT(Parsed({"evacuate", "--from", "host1", "--to", "host2,10.0.0.3:1"}).targets,
              ElementsAre("10.0.0.2:50051", "10.0.0.3:1"));
  EXPECT_EQ(Parsed({"clock", "host1", "host2"}).to, "10.0.0.2:50051");
  EXPECT_THAT(Parsed({"top", "--agent", "host2"}).agents, ElementsAre("10.0.0.2:50051"));
}

TEST_F(ContextsTest, WhoWatchesWithoutAWordSeesAllHosts) {
  EXPECT_THAT(Parsed({"watch"}).agents, ElementsAre("10.0.0.1:50051", "10.0.0.2:50051"));
  EXPECT_THAT(Parsed({"--agent", "host2", "watch"}).agents, ElementsAre("10.0.0.2:50051"));
  EXPECT_THAT(Parsed({"--context", "far", "top", "-o", "table"}).agents, ElementsAre("10.9.0.1:1"));
}

TEST_F(ContextsTest, TheyAreLookedForWhereOtherProgramsSettingsAre) {
  const std::string home = absl::StrCat(directory_, "/home");
  std::filesystem::create_directories(absl::StrCat(home, "/.config/tscctl"));
  std::filesystem::rename(path_, absl::StrCat(home, "/.config/tscctl/config.yaml"));
  environment_.variables = {{"HOME", home}};
  EXPECT_EQ(Parsed({"vms"}).agent, "10.0.0.1:50051");
  environment_.variables["XDG_CONFIG_HOME"] = absl::StrCat(directory_, "/elsewhere");
  EXPECT_EQ(Parsed({"vms"}).agent, "unix:/run/tsc-handoff/agent.sock");
  environment_.variables["XDG_CONFIG_HOME"] = absl::StrCat(home, "/.config");
  EXPECT_EQ(Parsed({"vms"}).agent, "10.0.0.1:50051");
}

TEST_F(ContextsTest, AreListed) {
  EXPECT_EQ(Do({"contexts"}).out,
            "   NAME  AGENT       HOSTS\n"
            "*  lab   host1       host1=10.0.0.1:50051 host2=10.0.0.2:50051\n"
            "   far   10.9.0.1:1\n"
            "   bare  -\n");
  EXPECT_THAT(Do({"contexts", "-o", "json"}).out,
              AllOf(HasSubstr("\"in_force\": true"), HasSubstr("\"host2\": \"10.0.0.2:50051\""),
                    HasSubstr("\"agent\": null")));
  Write("");
  EXPECT_EQ(Do({"contexts"}).out,
            absl::StrCat("No contexts in ", path_,
                         ". `tscctl contexts --help` says how to make some.\n"));
}

TEST_F(ContextsTest, AnotherOneBecomesCurrentAndNothingElseOfTheFileChanges) {
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  const std::string link = absl::StrCat(directory_, "/link.yaml");
  ASSERT_EQ(symlink(path_.c_str(), link.c_str()), 0);
  const Outcome outcome = Do({"--config", link, "use-context", "far"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  std::string expected = kFile;
  expected.replace(expected.find("lab "), 4, "far ");
  EXPECT_EQ(Text(), expected);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  struct stat about = {};
  ASSERT_EQ(stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0640u);
  EXPECT_EQ(Parsed({"vms", "-o", "table"}).agent, "10.9.0.1:1");
}

TEST_F(ContextsTest, AFirstCurrentOneIsAdded) {
  Write("contexts:\n  lab:\n    agent: a:1\n");
  EXPECT_EQ(Parsed({"vms"}).agent, "unix:/run/tsc-handoff/agent.sock");
  EXPECT_EQ(Do({"use-context", "lab"}).exit_code, 0);
  EXPECT_EQ(Text(), "current-context: lab\ncontexts:\n  lab:\n    agent: a:1\n");
}

TEST_F(ContextsTest, AFileInWhichTheLineHasNoPlaceOfItsOwnStaysAsItIs) {
  const char* const files[] = {
      "{current-context: lab, contexts: {lab: ~, far: ~}}\n",
      "%YAML 1.2\n---\ncontexts: {lab: ~, far: ~}\n",
      "\"current-context\": lab\ncontexts: {lab: ~, far: ~}\n",
      "current-context:\n  lab\ncontexts: {lab: ~, far: ~}\n",
      "contexts: {lab: ~, far: {agent: '\ncurrent-context: x'}}\n",
  };
  for (const char* const file : files) {
    SCOPED_TRACE(file);
    Write(file);
    const Outcome outcome = Do({"use-context", "far"});
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_THAT(outcome.err, HasSubstr("change it yourself to \"current-context: far\""));
    EXPECT_EQ(Text(), file);
  }
}

TEST_F(ContextsTest, OneThatIsNotThereIsNamedWithThoseThatAre) {
  for (const auto& args : std::vector<std::vector<std::string>>{{"--context", "lost", "vms"},
                                                                {"use-context", "lost"}}) {
    const Outcome outcome = Do(args);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat("there is no context lost in ", path_,
                                                    "; there are: lab, far, bare")));
  }
  EXPECT_EQ(Text(), kFile);
}

struct Fault {
  const char* text;
  const char* said;
};

TEST_F(ContextsTest, AFaultIsSaidWithItsLine) {
  const Fault faults[] = {
      {"contexts: [a]\n", ":1: contexts: lines of NAME: and its settings were expected"},
      {"current: lab\n", ":1: current: current-context or contexts was expected"},
      {"contexts:\n  lab:\n    agnet: a:1\n", ":3: agnet: no such setting"},
      {"contexts:\n  lab:\n    timeout: [1s]\n", ":3: timeout: one word was expected"},
      {"contexts:\n  lab:\n    output: xml\n", ":3: output: "},
      {"contexts:\n  lab:\n    context: lab\n", ":3: context: no such setting"},
      {"contexts:\n  lab: 7\n", ":2: lab: lines of KEY: VALUE were expected"},
      {"contexts:\n  a:b: {}\n", ":2: contexts: a name of at most 64 letters"},
      {"contexts: {lab: ~}\ncontexts: {far: ~}\n", ":2: contexts: it is there twice"},
      {"contexts:\n  lab:\n  lab:\n", ":3: lab: it is there twice"},
      {"contexts:\n  lab:\n    hosts: a:1\n", ":3: hosts: lines of NAME: ADDRESS were expected"},
      {"contexts:\n  lab:\n    hosts:\n      -a: a:1\n", ":4: hosts: a name of at most 64"},
      {"contexts:\n  lab:\n    hosts:\n      a: nowhere\n", ":4: hosts: a: "},
      {"contexts:\n  lab:\n    hosts:\n      a: [a:1]\n", ":4: hosts: a: one address was expected"},
      {"contexts:\n  lab:\n    hosts:\n      a: a:1\n      a: b:1\n", ":5: hosts: a: it is there"},
      {"current-context: lab\ncontexts:\n  a:\n  b:\n",
       ":1: current-context: there is no context lab; there are: a, b"},
      {"current-context: [lab]\n", ":1: current-context: the name of one was expected"},
      {"contexts:\n\tlab:\n", ":2: this is no YAML: "},
      {"a: 1\n---\nb: 2\n", "a second document"},
  };
  for (const Fault& fault : faults) {
    Write(fault.text);
    const Outcome outcome = Do({"contexts"});
    EXPECT_EQ(outcome.exit_code, 5) << fault.text;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(absl::StrCat("tscctl: ", path_)),
                                   HasSubstr(fault.said), HasSubstr("contexts --example")));
  }
}

TEST_F(ContextsTest, ABrokenFileStopsOnlyWhatUsesIt) {
  Write("contexts: 7\n");
  EXPECT_EQ(Do({"vms"}).exit_code, 5);
  EXPECT_EQ(Do({"version"}).exit_code, 0);
  EXPECT_EQ(Do({"contexts", "--example"}).exit_code, 0);
  EXPECT_EQ(Do({"vms", "--help"}).exit_code, 0);
}

TEST_F(ContextsTest, AFileThatWasNamedMustBeThere) {
  unlink(path_.c_str());
  EXPECT_THAT(Do({"vms"}).err, HasSubstr("cannot be read: No such file"));
  environment_.variables.clear();
  EXPECT_THAT(Do({"--config", path_, "vms"}).err, HasSubstr("cannot be read: No such file"));
  EXPECT_EQ(Do({"--config", "", "vms"}).exit_code, 2);
}

TEST_F(ContextsTest, TheExampleIsAFileThatWorks) {
  Write(Do({"contexts", "--example"}).out);
  EXPECT_THAT(Do({"contexts"}).err, IsEmpty());
  EXPECT_THAT(Parsed({"watch"}).agents, ElementsAre("10.0.0.1:50051", "10.0.0.2:50051"));
  EXPECT_THAT(Text(), AllOf(HasSubstr("#timeout:"), HasSubstr("#agent:")));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
