#include "tools/clidoc/command_doc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace tsc_handoff::clidoc {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The options' documentation, without --help, which CLI11 puts first.
std::vector<OptionDoc> OptionsOf(const CLI::App& app) {
  CommandDoc doc = Describe(app);
  EXPECT_THAT(doc.options[0].names, ElementsAre("-h", "--help"));
  doc.options.erase(doc.options.begin());
  return doc.options;
}

TEST(Describe, AFlagHasNamesAndNoValue) {
  CLI::App app("text", "program");
  bool on = false;
  app.add_flag("-q,--quiet", on, "Say less");
  const OptionDoc option = OptionsOf(app)[0];
  EXPECT_THAT(option.names, ElementsAre("-q", "--quiet"));
  EXPECT_EQ(option.value, "");
  EXPECT_EQ(option.help, "Say less");
  EXPECT_FALSE(option.repeats);
}

TEST(Describe, ChoicesComeFromTheTypesNameOrFromTheCheck) {
  CLI::App app("text", "program");
  std::string text;
  app.add_option("--mode", text)->type_name("elapsed|exact");
  app.add_option("--clock", text)->type_name("auto|chrony[:ADDRESS]|kernel|fixed:DURATION");
  app.add_option("--level", text)->check(CLI::IsMember({"info", "warn"}))->type_name("LEVEL");
  app.add_option("--agent", text)->type_name("HOST:PORT");
  const std::vector<OptionDoc> options = OptionsOf(app);
  EXPECT_THAT(options[0].choices, ElementsAre("elapsed", "exact"));
  EXPECT_EQ(options[0].value, "elapsed|exact");
  EXPECT_THAT(options[1].choices, ElementsAre("auto", "chrony", "kernel", "fixed:"));
  EXPECT_THAT(options[2].choices, ElementsAre("info", "warn"));
  EXPECT_EQ(options[2].value, "LEVEL");
  EXPECT_THAT(options[3].choices, IsEmpty());
  EXPECT_EQ(options[3].value, "HOST:PORT");
}

TEST(Describe, ARangeIsNoPartOfTheValuesName) {
  CLI::App app("text", "program");
  int number = 0;
  app.add_option("--count", number)->check(CLI::Range(1, 1000));
  EXPECT_EQ(OptionsOf(app)[0].value, "INT");
}

TEST(Describe, FilesRepetitionsAndPositionalArgumentsAreKnown) {
  CLI::App app("text", "program");
  std::string text;
  std::vector<std::string> many;
  app.add_option("--out", text)->type_name("FILE")->required();
  app.add_option("--listen", many)->type_name("ADDRESS");
  app.add_option("VM", text, "The VM")->required()->type_name("");
  const std::vector<OptionDoc> options = OptionsOf(app);
  EXPECT_TRUE(options[0].takes_file);
  EXPECT_TRUE(options[0].required);
  EXPECT_TRUE(options[1].repeats);
  EXPECT_TRUE(options[2].positional());
  EXPECT_EQ(options[2].value, "VM");
}

TEST(Describe, HiddenOptionsAndCommandsAreLeftOut) {
  CLI::App app("text", "program");
  bool on = false;
  app.add_flag("--internal", on)->group("");
  app.add_subcommand("secret", "text")->group("");
  app.add_subcommand("host", "About the host");
  EXPECT_THAT(OptionsOf(app), IsEmpty());
  const CommandDoc doc = Describe(app);
  ASSERT_EQ(doc.commands.size(), 1u);
  EXPECT_EQ(doc.commands[0].name, "host");
  EXPECT_EQ(doc.commands[0].description, "About the host");
}

}  // namespace
}  // namespace tsc_handoff::clidoc
