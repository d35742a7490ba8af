#include "server/auth/vm_owners.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tsc_handoff::auth {
namespace {

using testing::HasSubstr;

Identity User(uint32_t uid) {
  Identity identity;
  identity.kind = Identity::Kind::kUnix;
  identity.uid = uid;
  identity.gid = uid;
  return identity;
}

// Says nothing about VMMs, as the built-in one.
const Policy kSilent = BuiltInPolicy(990, 990);

// Gives "a-*" to users 107 and 108, and "b" to 107.
Policy Bound() {
  Policy policy;
  policy.bindings.push_back(
      {.role = Role::kVmm, .users = {107, 108}, .vms = {.patterns = {"a-*"}}});
  policy.bindings.push_back({.role = Role::kVmm, .users = {107}, .vms = {.patterns = {"b"}}});
  return policy;
}

TEST(VmOwners, AnIdStaysItsFirstUsersWhateverTheState) {
  VmOwners owners;
  EXPECT_TRUE(owners.MayRegister(kSilent, User(107), "a-1", {}).ok());
  owners.Registered("a-1", 107);
  for (const bool in_use : {false, true}) {
    EXPECT_TRUE(owners.MayRegister(kSilent, User(107), "a-1", {.is = in_use}).ok());
    EXPECT_TRUE(owners.MayRegister(kSilent, User(0), "a-1", {.is = in_use}).ok()) << "root may";
    const absl::Status other = owners.MayRegister(kSilent, User(1000), "a-1", {.is = in_use});
    EXPECT_EQ(other.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(other.message()), HasSubstr("the VM id a-1 is of uid 107"));
    EXPECT_THAT(std::string(other.message()), HasSubstr("uid 1000 may not take it over"));
  }
  EXPECT_TRUE(owners.MayRegister(kSilent, User(1000), "a-2", {}).ok());
}

TEST(VmOwners, RootTakesNoneAway) {
  VmOwners owners;
  owners.Registered("a-1", 107);
  owners.Registered("a-1", 0);
  EXPECT_EQ(owners.OwnerOf("a-1"), 107u);
  owners.Registered("a-2", 0);
  EXPECT_FALSE(owners.MayRegister(kSilent, User(107), "a-2", {}).ok());
}

TEST(VmOwners, WhoHasItInAHandoffOrByAttachingCountsAlsoAfterARestart) {
  const VmOwners owners;  // knows nobody
  const VmInUse in_use = {.is = true, .uid = 107};
  EXPECT_TRUE(owners.MayRegister(kSilent, User(107), "a-1", in_use).ok());
  EXPECT_TRUE(owners.MayRegister(kSilent, User(0), "a-1", in_use).ok());
  EXPECT_FALSE(owners.MayRegister(kSilent, User(1000), "a-1", in_use).ok());
  EXPECT_FALSE(owners.MayRegister(Bound(), User(108), "a-1", in_use).ok());
}

TEST(VmOwners, APolicyThatBindsVmmsDecidesWhoMayRegisterWhat) {
  VmOwners owners;
  const Policy bound = Bound();
  EXPECT_TRUE(owners.MayRegister(bound, User(107), "a-1", {}).ok());
  EXPECT_TRUE(owners.MayRegister(bound, User(107), "b", {}).ok());
  EXPECT_TRUE(owners.MayRegister(bound, User(0), "anything", {}).ok());
  EXPECT_FALSE(owners.MayRegister(bound, User(107), "c", {}).ok());
  EXPECT_FALSE(owners.MayRegister(bound, User(108), "b", {}).ok());
  EXPECT_THAT(std::string(owners.MayRegister(bound, User(1000), "a-1", {}).message()),
              HasSubstr("no binding of role vmm"));
}

TEST(VmOwners, APolicyMayGiveAnIdToAnotherUserOnceNobodyUsesIt) {
  VmOwners owners;
  const Policy bound = Bound();
  owners.Registered("a-1", 107);
  EXPECT_FALSE(owners.MayRegister(bound, User(108), "a-1", {.is = true}).ok());
  EXPECT_TRUE(owners.MayRegister(bound, User(108), "a-1", {.is = false}).ok());
}

}  // namespace
}  // namespace tsc_handoff::auth
