#include "server/registry/vm_registry.h"

#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <thread>

#include "server/base/error.h"

namespace tsc_handoff::registry {
namespace {

class NoPort final : public port::VmPort {
 public:
  absl::StatusOr<port::Capture> ReadAll(port::Hold) override { return absl::InternalError("none"); }
  absl::StatusOr<port::Applied> WriteAll(const port::ApplyOrder&, port::Hold) override {
    return absl::InternalError("none");
  }
  void SendPermit(const port::Permit&) override {}
  absl::StatusOr<bool> IsPaused() override { return true; }
};

std::shared_ptr<RegisteredVm> NewVm(const std::string& vm_id) {
  VmIdentity identity;
  identity.vm_id = vm_id;
  return std::make_shared<RegisteredVm>(std::move(identity), std::make_unique<NoPort>(),
                                        std::vector<UniqueFd>());
}

class VmRegistryTest : public testing::Test {
 protected:
  VmRegistryTest() {
    EXPECT_TRUE(registry_.Add(vm_, [] { return absl::OkStatus(); }).ok());
  }

  const std::shared_ptr<RegisteredVm> vm_ = NewVm("vm");
  VmRegistry registry_{10, absl::Minutes(5)};
};

TEST_F(VmRegistryTest, OneOperationAtATime) {
  {
    const auto lease = registry_.Lease("vm");
    ASSERT_TRUE(lease.ok());
    EXPECT_EQ(ReasonOf(registry_.Lease("vm").status()), Reason::kVmBusy);
    EXPECT_FALSE(VmLease::Glance(vm_).held());
  }
  EXPECT_TRUE(registry_.Lease("vm").ok());
  EXPECT_EQ(ReasonOf(registry_.Lease("other").status()), Reason::kVmNotFound);
}

TEST_F(VmRegistryTest, AnOperationWaitsForAGlance) {
  std::optional<VmLease> glance(VmLease::Glance(vm_));
  ASSERT_TRUE(glance->held());
  EXPECT_FALSE(VmLease::Glance(vm_).held());
  std::promise<void> asking;
  std::future<bool> leased = std::async(std::launch::async, [&] {
    asking.set_value();
    return registry_.Lease("vm").ok();
  });
  asking.get_future().wait();
  glance.reset();
  EXPECT_TRUE(leased.get());
}

TEST_F(VmRegistryTest, AGlanceThatDoesNotEndIsNotWaitedForForEver) {
  const auto glance = VmLease::Glance(vm_);
  EXPECT_FALSE(VmLease::Operate(vm_, absl::Milliseconds(1)).held());
  EXPECT_FALSE(VmLease::Operate(vm_, absl::ZeroDuration()).held());
}

TEST_F(VmRegistryTest, ALeaseThatWasMovedIsReleasedOnce) {
  {
    VmLease lease = VmLease::Operate(vm_, absl::ZeroDuration());
    const VmLease moved = std::move(lease);
    EXPECT_TRUE(moved.held());
    EXPECT_EQ(&moved.vm(), vm_.get());
  }
  EXPECT_TRUE(VmLease::Glance(vm_).held());
}

std::shared_ptr<RegisteredVm> SeenVm(const std::string& vm_id) {
  VmIdentity identity;
  identity.vm_id = vm_id;
  identity.port = PortKind::kNone;
  return std::make_shared<RegisteredVm>(std::move(identity), Error(Reason::kAttachDenied, "off"));
}

TEST_F(VmRegistryTest, AVmThatIsOnlySeenCannotBeLeased) {
  const auto seen = SeenVm("seen");
  ASSERT_TRUE(registry_.Add(seen, [] { return absl::OkStatus(); }).ok());
  EXPECT_EQ(ReasonOf(registry_.Lease("seen").status()), Reason::kAttachDenied);
  EXPECT_FALSE(VmLease::Glance(seen).held());
}

TEST_F(VmRegistryTest, WhatWasFoundGivesItsIdToWhoRegisters) {
  const auto seen = SeenVm("seen");
  ASSERT_TRUE(registry_.Add(seen, [] { return absl::OkStatus(); }).ok());
  EXPECT_FALSE(registry_.Add(SeenVm("seen"), [] { return absl::OkStatus(); }).ok());
  EXPECT_FALSE(registry_.Add(SeenVm("vm"), [] { return absl::OkStatus(); }).ok());
  const auto registered = NewVm("seen");
  EXPECT_FALSE(registry_.Add(registered, [] { return absl::UnavailableError("gone"); }).ok());
  EXPECT_EQ(*registry_.Find("seen"), seen) << "who registered has gone";
  ASSERT_TRUE(registry_.Add(registered, [] { return absl::OkStatus(); }).ok());
  EXPECT_EQ(*registry_.Find("seen"), registered);
  registry_.Remove(*seen);
  EXPECT_EQ(*registry_.Find("seen"), registered);
  EXPECT_FALSE(registry_.Add(NewVm("seen"), [] { return absl::OkStatus(); }).ok());
}

TEST_F(VmRegistryTest, WritesAreCountedAtBothEnds) {
  EXPECT_EQ(vm_->writes(), 0u);
  {
    const WriteNote note(*vm_);
    EXPECT_EQ(vm_->writes(), 1u);
  }
  EXPECT_EQ(vm_->writes(), 2u);
}

}  // namespace
}  // namespace tsc_handoff::registry
