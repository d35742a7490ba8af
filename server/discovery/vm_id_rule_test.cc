#include "server/discovery/vm_id_rule.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::discovery {
namespace {

using Words = std::vector<std::string>;

TEST(SplitCommandLine, Rows) {
  EXPECT_EQ(SplitCommandLine(""), Words{});
  EXPECT_EQ(SplitCommandLine(std::string("\0", 1)), Words{});
  EXPECT_EQ(SplitCommandLine(std::string("a\0", 2)), Words{"a"});
  EXPECT_EQ(SplitCommandLine(std::string("a\0\0b c\0", 7)), (Words{"a", "", "b c"}));
  EXPECT_EQ(SplitCommandLine("cut off"), Words{"cut off"});
}

TEST(QemuVmId, Rows) {
  struct Row {
    Words words;
    std::string id;  // "": none
  };
  const Row rows[] = {
      {{"qemu", "-name", "web1", "-m", "64"}, "web1"},
      {{"qemu", "-name", "guest=web1"}, "web1"},
      {{"qemu", "-name", "guest=web-1.example:2,debug-threads=on"}, "web-1.example:2"},
      {{"qemu", "-name", "web1,process=qemu"}, "web1"},
      {{"qemu", "-name", "debug-threads=on,guest=web1"}, "web1"},
      {{"qemu", "--name", "web1"}, "web1"},
      {{"qemu", "-name", "first", "-name", "last"}, "last"},
      {{"qemu", "-uuid", "7f3c2d0e-0000-4000-8000-000000000001"},
       "7f3c2d0e-0000-4000-8000-000000000001"},
      {{"qemu", "-uuid", "7f3c2d0e", "-name", "web1"}, "web1"},
      // Not an id: the UUID counts.
      {{"qemu", "-name", "my vm", "-uuid", "u1"}, "u1"},
      {{"qemu", "-name", "guest=a,,b", "-uuid", "u1"}, "u1"},
      {{"qemu", "-name", "debug-threads=on"}, ""},
      {{"qemu", "-name", ""}, ""},
      {{"qemu", "-name"}, ""},
      {{"-name", "web1"}, ""},
      {{"qemu", "-name", std::string(129, 'x')}, ""},
      {{"qemu", "-name", std::string(128, 'x')}, std::string(128, 'x')},
      {{"qemu", "-m", "64"}, ""},
      {{}, ""},
  };
  for (const Row& row : rows) EXPECT_EQ(QemuVmId(row.words).value_or(""), row.id) << row.id;
}

TEST(VmIdRule, AConfiguredRuleComesFirst) {
  auto rule = VmIdRule::Create("--id[ =]([^ ]+)");
  ASSERT_TRUE(rule.ok());
  EXPECT_EQ(rule->VmIdOf({"firecracker", "--id", "f-7", "--api-sock", "/x"}), "f-7");
  EXPECT_EQ(rule->VmIdOf({"cloud-hypervisor", "--id=c/7"}), std::nullopt)
      << "matched, and is no id";
  EXPECT_EQ(rule->VmIdOf({"qemu", "-name", "web1"}), "web1") << "not matched";
  EXPECT_EQ(rule->VmIdOf({}), std::nullopt);
}

TEST(VmIdRule, AGroupThatDidNotTakePartIsNoId) {
  auto rule = VmIdRule::Create("run(?: (x))?");
  ASSERT_TRUE(rule.ok());
  EXPECT_EQ(rule->VmIdOf({"run"}), std::nullopt);
}

TEST(VmIdRule, APatternThatIsNoneIsRefused) {
  EXPECT_FALSE(VmIdRule::Create("(").ok());
  EXPECT_FALSE(VmIdRule::Create("no group").ok());
  EXPECT_TRUE(VmIdRule::Create("").ok());
}

}  // namespace
}  // namespace tsc_handoff::discovery
