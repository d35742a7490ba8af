#include "server/config/yaml_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace tsc_handoff::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const OptionNames kNotInFile = {"help", "config"};

// A program with one option of each kind.
class YamlOptionsTest : public ::testing::Test {
 protected:
  YamlOptionsTest() {
    app_.add_option("--config", config_, "The file");
    app_.add_option("--name", name_, "What it is called [none]")->type_name("NAME");
    app_.add_option("--limit", limit_, "How many [5]")->check(CLI::Range(1, 9))->type_name("N");
    app_.add_option("--listen", listen_, "Where; may be repeated [here]")->type_name("ADDRESS");
    app_.add_flag("--loud", loud_, "Say more");
  }

  void Parse(std::vector<std::string> arguments) {
    app_.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  }
  std::string Apply(const std::string& text) {
    return ApplyYamlText(app_, text, "agent.yaml", kNotInFile);
  }

  CLI::App app_{"A program", "program"};
  std::string config_;
  std::string name_;
  int limit_ = 5;
  std::vector<std::string> listen_;
  bool loud_ = false;
};

TEST_F(YamlOptionsTest, KeysAreFlags) {
  Parse({});
  EXPECT_EQ(Apply("name: web\nlimit: 7\nlisten: [a, b]\nloud: true\n"), "");
  EXPECT_EQ(name_, "web");
  EXPECT_EQ(limit_, 7);
  EXPECT_THAT(listen_, ElementsAre("a", "b"));
  EXPECT_TRUE(loud_);
}

TEST_F(YamlOptionsTest, AFlagOnTheCommandLineOverridesTheFile) {
  Parse({"--limit", "2", "--listen", "c"});
  EXPECT_EQ(Apply("limit: 7\nlisten: [a, b]\nname: web\n"), "");
  EXPECT_EQ(limit_, 2);
  EXPECT_THAT(listen_, ElementsAre("c"));
  EXPECT_EQ(name_, "web");
}

TEST_F(YamlOptionsTest, AnEmptyFileSetsNothing) {
  for (const char* text : {"", "# nothing\n", "---\n", "---\n...\n"}) EXPECT_EQ(Apply(text), "");
}

TEST_F(YamlOptionsTest, WhatIsWrongIsSaidWithFileAndLine) {
  const struct {
    const char* text;
    const char* said;
  } kRows[] = {
      {"name: web\nlmit: 3\n", "agent.yaml:2: lmit: no such setting; each flag's name is one"},
      {"li: 3\n", "agent.yaml:1: li: no such setting; is limit meant?"},
      {"LIMIT: 3\n", "agent.yaml:1: LIMIT: no such setting; is limit meant?"},
      {"config: x\n", "agent.yaml:1: config: no such setting"},
      {"\nlimit: 10\n", "agent.yaml:2: limit: Value 10 not in range"},
      {"limit: many\n", "agent.yaml:1: limit: "},
      {"limit: [1, 2]\n", "agent.yaml:1: limit: one word was expected"},
      {"limit: {a: 1}\n", "agent.yaml:1: limit: one word was expected"},
      {"limit:\n", "agent.yaml:1: limit: there is no value"},
      {"listen: [a, [b]]\n", "agent.yaml:1: listen: a list of words was expected"},
      {"listen: {a: b}\n", "agent.yaml:1: listen: a word or a list of words was expected"},
      {"loud: perhaps\n", "agent.yaml:1: loud: true or false was expected, not \"perhaps\""},
      {"name: a\nname: b\n", "agent.yaml:2: name: it is there twice"},
      {"[a]: b\n", "agent.yaml:1: a key must be a word"},
      {"- name\n", "agent.yaml:1: lines of KEY: VALUE were expected"},
      {"name: a\n---\nname: b\n", "agent.yaml:3: a second document"},
      {",", "agent.yaml:1: a second document, or what belongs to none"},
      {"name: a\n}\n", "agent.yaml:2: "},
      {"name: [a\n", "this is no YAML"},
      {"name: *unknown\n", "agent.yaml:1: this is no YAML"},
      {"\tname: a\n", "agent.yaml:1: "},
  };
  for (const auto& row : kRows) {
    CLI::App app;
    int limit = 0;
    std::string word;
    std::vector<std::string> words;
    bool flag = false;
    app.add_option("--config", word);
    app.add_option("--name", word);
    app.add_option("--limit", limit)->check(CLI::Range(1, 9));
    app.add_option("--listen", words);
    app.add_flag("--loud", flag);
    app.parse(std::vector<std::string>());
    EXPECT_THAT(ApplyYamlText(app, row.text, "agent.yaml", kNotInFile), HasSubstr(row.said))
        << row.text;
  }
}

TEST_F(YamlOptionsTest, AFileThatCannotBeReadIsSaidByName) {
  Parse({});
  EXPECT_THAT(ApplyYaml(app_, "/nowhere/agent.yaml", kNotInFile),
              HasSubstr("/nowhere/agent.yaml: cannot be read: No such file"));
  EXPECT_THAT(ApplyYaml(app_, "/dev/zero", kNotInFile), HasSubstr("must be a file of at most"));
  EXPECT_THAT(ApplyYaml(app_, "/", kNotInFile), HasSubstr("/: "));
}

TEST_F(YamlOptionsTest, TheExampleHasEverySettingAndSetsNone) {
  const std::string example = ExampleYaml(app_, kNotInFile);
  EXPECT_EQ(example,
            "\n# What it is called.\n# NAME\n#name: none\n"
            "\n# How many.\n# N:INT in [1 - 9]\n#limit: 5\n"
            "\n# Where; may be repeated.\n# ADDRESS\n#listen: here\n"
            "\n# Say more.\n#loud: false\n");
  Parse({});
  EXPECT_EQ(Apply(example), "");
  EXPECT_TRUE(GivenOptions(app_).empty());
}

TEST_F(YamlOptionsTest, WhatWasGivenCanBeCompared) {
  Parse({"--limit", "2"});
  EXPECT_EQ(Apply("listen: [a, b]\nloud: true\nlimit: 3\n"), "");
  const std::map<std::string, std::string> expected = {
      {"limit", "2"}, {"listen", "a b"}, {"loud", "true"}};
  EXPECT_EQ(GivenOptions(app_), expected);
}

}  // namespace
}  // namespace tsc_handoff::config
