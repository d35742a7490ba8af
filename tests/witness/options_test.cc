#include "tests/witness/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tsc_handoff::witness {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kMinusOne = ~uint64_t{0};

std::vector<std::string> With(std::vector<std::string> more) {
  std::vector<std::string> args = {"--vm-id", "vm", "--agent-socket", "/a", "--control", "/c"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

TEST(OptionsTest, DefaultsAreAFreshRunningVmWithEqualPhases) {
  auto options = ParseOptions(With({"--vcpus", "3"}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->vm_id, "vm");
  EXPECT_EQ(options->agent_socket, "/a");
  EXPECT_EQ(options->control_path, "/c");
  EXPECT_THAT(options->vcpu_ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(options->phase_ticks, ElementsAre(0, 0, 0));
  EXPECT_THAT(options->tsc_adjust_ticks, ElementsAre(0, 0, 0));
  EXPECT_FALSE(options->incoming);
  EXPECT_FALSE(options->awaits_handoff);
  EXPECT_FALSE(options->paused);
  EXPECT_FALSE(options->irqchip);
  EXPECT_TRUE(options->check_across);
}

TEST(OptionsTest, TakesSparseIdsAndLists) {
  auto options =
      ParseOptions(With({"--vcpu-ids=0,2,5", "--phase-ticks=0,-1,1000", "--tsc-adjust=0,0x10"}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->vcpu_ids, ElementsAre(0, 2, 5));
  EXPECT_THAT(options->phase_ticks, ElementsAre(0, kMinusOne, 1000));
  EXPECT_THAT(options->tsc_adjust_ticks, ElementsAre(0, 16, 0));
}

TEST(OptionsTest, SocketNoneMeansWithoutAgent) {
  auto options =
      ParseOptions({"--vm-id", "v", "--vcpus", "1", "--agent-socket", "none", "--control", "/c"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->agent_socket, "");
}

TEST(OptionsTest, DeadlineBringsIrqchip) {
  auto options = ParseOptions(With({"--vcpus=1", "--deadline-ticks=5000000"}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->irqchip);
  EXPECT_EQ(options->deadline_period_ticks, 5'000'000u);
}

TEST(OptionsTest, DestinationAwaitsItsHandoff) {
  auto options = ParseOptions(With({"--vcpus=1", "--incoming", "--awaits-handoff"}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->awaits_handoff);
}

TEST(OptionsTest, DiesAtTheWriteThatIsNamed) {
  auto options = ParseOptions(With({"--vcpus=1"}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->die_at_write, 0u) << "never";
  options = ParseOptions(With({"--vcpus=1", "--die-at-write", "3"}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->die_at_write, 3u);
}

TEST(OptionsTest, HelpNeedsNothingElse) {
  auto options = ParseOptions({"--help"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->help);
}

TEST(OptionsTest, RefusesWhatMakesNoSenseAndNamesIt) {
  const struct {
    std::vector<std::string> args;
    std::string named;
  } rows[] = {
      {With({}), "--vcpus N"},
      {With({"--vcpus", "0"}), "1 to 64"},
      {With({"--vcpus", "65"}), "1 to 64"},
      {With({"--vcpus", "4x"}), "4x"},
      {With({"--vcpus", ""}), "--vcpus"},
      {With({"--vcpus"}), "value is missing"},
      {With({"--vcpus", "2", "--vcpu-ids", "0,1,2"}), "names 3"},
      {With({"--vcpu-ids", "0,0"}), "ascending"},
      {With({"--vcpu-ids", "2,1"}), "ascending"},
      {With({"--vcpu-ids", "4096"}), "0 to 4095"},
      {With({"--vcpu-ids", "0,,1"}), "0,,1"},
      {With({"--vcpus", "2", "--phase-ticks", "1,2,3"}), "no more numbers"},
      {With({"--vcpus", "2", "--phase-ticks", "1,a"}), "whole numbers"},
      {With({"--vcpus", "2", "--phase-ticks", "1", "--phase-spread", "2"}), "exclude"},
      {With({"--vcpus", "2", "--incoming", "--phase-spread", "2"}), "--incoming"},
      {With({"--vcpus", "2", "--incoming", "--tsc-adjust", "2"}), "--incoming"},
      {With({"--vcpus", "2", "--awaits-handoff"}), "--incoming"},
      {{"--vm-id", "v", "--vcpus", "2", "--agent-socket", "none", "--control", "/c", "--incoming",
        "--awaits-handoff"},
       "has an agent"},
      {With({"--vcpus", "2", "--die-at-write", "0"}), "--die-at-write 0"},
      {With({"--vcpus", "2", "--die-at-write", "-1"}), "--die-at-write -1"},
      {{"--vm-id", "v", "--vcpus", "2", "--agent-socket", "none", "--control", "/c",
        "--die-at-write", "1"},
       "has an agent"},
      {With({"--vcpus", "2", "--nice", "-1"}), "--nice"},
      {With({"--vcpus", "2", "stray"}), "stray"},
      {With({"--vcpus", "2", "--nonsense"}), "--nonsense"},
      {{"--vcpus", "2", "--agent-socket", "/a", "--control", "/c"}, "--vm-id"},
      {{"--vcpus", "2", "--vm-id", "v", "--control", "/c"}, "--agent-socket"},
      {{"--vcpus", "2", "--vm-id", "v", "--agent-socket", "/a"}, "--control"},
      {{"--vcpus", "2", "--vm-id", "v", "--agent-socket", "/a", "--control", std::string(108, 'x')},
       "107"},
  };
  for (const auto& row : rows) {
    auto options = ParseOptions(row.args);
    ASSERT_FALSE(options.ok()) << row.named;
    EXPECT_THAT(std::string(options.status().message()), HasSubstr(row.named));
  }
}

TEST(ParseTicksTest, TakesBothEndsOf64Bits) {
  auto ticks = ParseTicks("18446744073709551615,-9223372036854775808,9223372036854775807", 3);
  ASSERT_TRUE(ticks.ok()) << ticks.status();
  EXPECT_THAT(*ticks, ElementsAre(kMinusOne, uint64_t{1} << 63, (uint64_t{1} << 63) - 1));
}

TEST(ParseTicksTest, RefusesWhatDoesNotFit) {
  for (const char* list :
       {"18446744073709551616", "-9223372036854775809", "--1", "0x", "-", "1, 2", "1.5", ""}) {
    EXPECT_FALSE(ParseTicks(list, 3).ok()) << list;
  }
}

TEST(SpreadPhasesTest, FirstAndLastDifferByTheSpread) {
  EXPECT_THAT(SpreadPhases(300, 4), ElementsAre(0, 100, 200, 300));
  EXPECT_THAT(SpreadPhases(-2, 3), ElementsAre(0, kMinusOne, kMinusOne - 1));
  EXPECT_THAT(SpreadPhases(500, 1), ElementsAre(0));
}

}  // namespace
}  // namespace tsc_handoff::witness
