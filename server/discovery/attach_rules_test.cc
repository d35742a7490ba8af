#include "server/discovery/attach_rules.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/base/error.h"

namespace tsc_handoff::discovery {
namespace {

FoundVm Qemu() {
  FoundVm vm;
  vm.pid = 70;
  vm.uid = 64055;
  vm.executable = "/usr/bin/qemu-system-x86_64";
  vm.cgroup = "/machine.slice/qemu-1.scope";
  return vm;
}

// The option that would have to be another; empty when it is permitted.
std::string DeniedBy(const AttachRules& rules, const FoundVm& vm = Qemu()) {
  const absl::Status status = CheckAttachPermitted(rules, vm);
  if (status.ok()) return "";
  EXPECT_EQ(ReasonOf(status), Reason::kAttachDenied) << status;
  return MetadataOf(status)["option"];
}

TEST(AttachRules, AreOffUnlessSwitchedOn) { EXPECT_EQ(DeniedBy({}), "--attach"); }

TEST(AttachRules, WhatIsNotNamedIsNotAsked) { EXPECT_EQ(DeniedBy({.attach = true}), ""); }

TEST(AttachRules, AStockQemuIsPermittedByDefault) {
  const AttachRules rules = {.attach = true, .executables = QemuExecutables()};
  EXPECT_EQ(DeniedBy(rules), "");
  FoundVm other = Qemu();
  other.executable = "/opt/vmm";
  EXPECT_EQ(DeniedBy(rules, other), "--attach-executable");
}

TEST(AttachRules, OneOfAKindIsEnoughAndEachKindIsNeeded) {
  AttachRules rules = {.attach = true,
                       .users = {0, 64055},
                       .executables = {"/opt/*", "/usr/bin/qemu-*"},
                       .cgroups = {"/a", "/machine.slice"}};
  EXPECT_EQ(DeniedBy(rules), "");
  rules.users = {0};
  EXPECT_EQ(DeniedBy(rules), "--attach-user");
  rules.users = {64055};
  rules.executables = {"/opt/*"};
  EXPECT_EQ(DeniedBy(rules), "--attach-executable");
  rules.executables = {"/usr/bin/qemu-system-x86_64"};
  rules.cgroups = {"/a"};
  EXPECT_EQ(DeniedBy(rules), "--attach-cgroup");
}

TEST(AttachRules, AStarDoesNotCrossASlash) {
  EXPECT_EQ(DeniedBy({.attach = true, .executables = {"/usr/*"}}), "--attach-executable");
  EXPECT_EQ(DeniedBy({.attach = true, .executables = {"/usr/*/*"}}), "");
}

TEST(AttachRules, ACgroupHoldsWhatIsBelowIt) {
  struct Row {
    const char* rule;
    bool permitted;
  };
  const Row rows[] = {{"/", true},
                      {"/machine.slice", true},
                      {"/machine.slice/", true},
                      {"/machine.slice/qemu-1.scope", true},
                      {"/machine", false},
                      {"/machine.slice/qemu-1.scope/deeper", false}};
  for (const Row& row : rows) {
    EXPECT_EQ(DeniedBy({.attach = true, .cgroups = {row.rule}}).empty(), row.permitted) << row.rule;
  }
}

TEST(AttachRules, WhatIsNotKnownIsNotPermitted) {
  FoundVm vm = Qemu();
  vm.executable.clear();
  vm.cgroup.clear();
  EXPECT_EQ(DeniedBy({.attach = true, .executables = {"*"}}, Qemu()), "--attach-executable");
  EXPECT_EQ(DeniedBy({.attach = true, .executables = QemuExecutables()}, vm),
            "--attach-executable");
  EXPECT_EQ(DeniedBy({.attach = true, .cgroups = {"/machine.slice"}}, vm), "--attach-cgroup");
}

}  // namespace
}  // namespace tsc_handoff::discovery
