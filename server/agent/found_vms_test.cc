#include "server/agent/found_vms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "server/agent/fake_host_vms.h"
#include "server/base/error.h"

namespace tsc_handoff::agent {
namespace {

using discovery::FoundVm;
using registry::PortKind;
using registry::RegisteredVm;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr size_t kMaxVms = 4;

class FoundVmsTest : public testing::Test {
 protected:
  std::vector<std::string> Ids() const {
    std::vector<std::string> ids;
    for (const auto& vm : registry_.List("", kMaxVms)) ids.push_back(vm->identity().vm_id);
    return ids;
  }
  std::shared_ptr<RegisteredVm> Find(const std::string& vm_id) const {
    auto vm = registry_.Find(vm_id);
    return vm.ok() ? *vm : nullptr;
  }
  // The one that is named after its process.
  std::shared_ptr<RegisteredVm> FindByProcess(pid_t pid) const {
    for (const auto& vm : registry_.List("", kMaxVms)) {
      if (vm->identity().vm_id.rfind("kvm-" + std::to_string(pid) + "-", 0) == 0) return vm;
    }
    return nullptr;
  }
  // A VMM that speaks for itself.
  std::shared_ptr<RegisteredVm> Register(const std::string& vm_id, pid_t pid) {
    registry::VmIdentity identity;
    identity.vm_id = vm_id;
    identity.vmm_pid = pid;
    identity.port = PortKind::kCooperative;
    auto vm = std::make_shared<RegisteredVm>(std::move(identity), std::make_unique<FakePort>(),
                                             std::vector<UniqueFd>());
    EXPECT_TRUE(registry_.Add(vm, [] { return absl::OkStatus(); }).ok());
    found_.GiveWayTo(pid == 0 ? getpid() : pid);
    return vm;
  }

  FakeHostVms host_;
  registry::VmRegistry registry_{kMaxVms};
  std::vector<std::string> events_;
  FoundVms found_{{.registry = registry_,
                   .boot_id = "this boot",
                   .attach = [this](const FoundVm& vm,
                                    const std::string& vm_id) { return host_.Attach(vm, vm_id); },
                   .realtime_ns = [] { return 5; },
                   .on_event =
                       [this](const registry::VmIdentity& identity, const std::string& what) {
                         events_.push_back(identity.vm_id + " " + what);
                       }}};
};

FoundVm Vm(pid_t pid, const std::string& vm_id, uint32_t vcpus = 2) {
  return FakeHostVms::Vm(pid, vm_id, vcpus);
}

TEST_F(FoundVmsTest, WhatIsThereIsRegisteredAndWhatIsGoneIsNot) {
  EXPECT_TRUE(found_.Update({Vm(70, "web1"), Vm(71, "web2", 3)}));
  EXPECT_THAT(Ids(), ElementsAre("web1", "web2"));
  const registry::VmIdentity& identity = Find("web2")->identity();
  EXPECT_EQ(identity.port, PortKind::kAttached);
  EXPECT_EQ(identity.vmm_pid, 71);
  EXPECT_EQ(identity.vmm_uid, 64055u);
  EXPECT_EQ(identity.vmm_vm_fd, 10);
  EXPECT_EQ(identity.registered_at_ns, 5);
  EXPECT_THAT(identity.vcpu_ids, ElementsAre(0u, 1u, 2u));
  EXPECT_FALSE(identity.awaits_handoff);
  EXPECT_TRUE(registry_.Lease("web2").ok());
  EXPECT_FALSE(found_.Update({Vm(70, "web1"), Vm(71, "web2", 3)}));
  EXPECT_TRUE(found_.Update({Vm(71, "web2", 3)}));
  EXPECT_THAT(Ids(), ElementsAre("web2"));
  EXPECT_THAT(events_, ElementsAre("web1 found: can be attached to",
                                   "web2 found: can be attached to", "web1 gone"));
}

TEST_F(FoundVmsTest, AVmInTheMakingIsWaitedFor) {
  EXPECT_FALSE(found_.Update({Vm(70, "web1", 0)}));
  EXPECT_THAT(Ids(), IsEmpty());
}

TEST_F(FoundVmsTest, AVmThatGetsAnotherVcpuIsAnotherVm) {
  found_.Update({Vm(70, "web1", 1)});
  const auto before = Find("web1");
  EXPECT_TRUE(found_.Update({Vm(70, "web1", 2)}));
  EXPECT_EQ(Find("web1")->identity().vcpu_ids.size(), 2u);
  EXPECT_NE(Find("web1")->identity().vmm_instance, before->identity().vmm_instance);
  EXPECT_THAT(Ids(), ElementsAre("web1"));
}

TEST_F(FoundVmsTest, AnInstanceIsTheSameForTheNextAgentAndForNoOtherVm) {
  found_.Update({Vm(70, "web1")});
  const std::string instance = Find("web1")->identity().vmm_instance;
  EXPECT_EQ(instance.size(), 16u);
  found_.Update({});
  found_.Update({Vm(70, "web1")});
  EXPECT_EQ(Find("web1")->identity().vmm_instance, instance);
  FoundVm later = Vm(70, "web1");
  later.start_time_ticks += 1;  // the pid came again
  found_.Update({later});
  EXPECT_NE(Find("web1")->identity().vmm_instance, instance);
}

TEST_F(FoundVmsTest, WhatMayNotBeReachedIsShownWithTheReason) {
  host_.Refuse(70, Error(Reason::kAttachDenied, "attaching is switched off"));
  EXPECT_TRUE(found_.Update({Vm(70, "web1")}));
  EXPECT_EQ(Find("web1")->identity().port, PortKind::kNone);
  EXPECT_EQ(ReasonOf(Find("web1")->unreachable()), Reason::kAttachDenied);
  EXPECT_EQ(ReasonOf(registry_.Lease("web1").status()), Reason::kAttachDenied);
  EXPECT_FALSE(registry::VmLease::Glance(Find("web1")).held());
  Find("web1")->SendPermit({});  // nobody to tell
  EXPECT_FALSE(found_.Update({Vm(70, "web1")})) << "nothing has changed";
  host_.Refuse(70, Error(Reason::kAttachRefused, "it has a seccomp filter"));
  EXPECT_TRUE(found_.Update({Vm(70, "web1")}));
  EXPECT_EQ(ReasonOf(Find("web1")->unreachable()), Reason::kAttachRefused);
  host_.Refuse(70, absl::OkStatus());
  EXPECT_TRUE(found_.Update({Vm(70, "web1")}));
  EXPECT_TRUE(registry_.Lease("web1").ok());
}

TEST_F(FoundVmsTest, UndecidedVcpusAreShownAndNotReached) {
  FoundVm vm = Vm(70, "web1", 0);
  vm.descriptors.undecided = "the process has several VMs with a vCPU 0";
  found_.Update({vm});
  EXPECT_EQ(ReasonOf(registry_.Lease("web1").status()), Reason::kVmAmbiguous);
  EXPECT_THAT(std::string(Find("web1")->unreachable().message()), HasSubstr("several VMs"));
}

TEST_F(FoundVmsTest, OneThatEndsMeanwhileIsLeftOut) {
  host_.Refuse(70, Error(Reason::kVmmGone, "process 70 has ended"));
  EXPECT_FALSE(found_.Update({Vm(70, "web1")}));
  EXPECT_THAT(Ids(), IsEmpty());
}

TEST_F(FoundVmsTest, AVmWithoutANameHasThatOfItsProcess) {
  found_.Update({Vm(70, "")});
  ASSERT_NE(FindByProcess(70), nullptr);
  const std::string vm_id = FindByProcess(70)->identity().vm_id;
  EXPECT_THAT(vm_id, StartsWith("kvm-70-10-"));
  EXPECT_TRUE(registry_.Lease(vm_id).ok());
  FoundVm later = Vm(70, "");
  later.start_time_ticks += 1;
  found_.Update({later});
  EXPECT_NE(FindByProcess(70)->identity().vm_id, vm_id) << "an id is for ever";
}

TEST_F(FoundVmsTest, OfTwoWithOneNameTheOneThatBeganFirstHasIt) {
  FoundVm elder = Vm(71, "twin");
  FoundVm younger = Vm(70, "twin");
  younger.start_time_ticks = elder.start_time_ticks + 1;
  found_.Update({younger, elder});
  EXPECT_EQ(Find("twin")->identity().vmm_pid, 71);
  ASSERT_NE(FindByProcess(70), nullptr);
  EXPECT_EQ(ReasonOf(FindByProcess(70)->unreachable()), Reason::kVmAmbiguous);
  EXPECT_THAT(std::string(FindByProcess(70)->unreachable().message()),
              HasSubstr("twin is taken by process 71"));
  EXPECT_FALSE(found_.Update({younger, elder}));
  EXPECT_TRUE(found_.Update({younger}));
  EXPECT_EQ(Find("twin")->identity().vmm_pid, 70) << "which has it now";
  EXPECT_EQ(FindByProcess(70), nullptr);
}

TEST_F(FoundVmsTest, AVmmThatHasRegisteredIsNotFound) {
  Register("db-7", 70);
  EXPECT_FALSE(found_.Update({Vm(70, "qemu-name")}));
  EXPECT_THAT(Ids(), ElementsAre("db-7"));
}

TEST_F(FoundVmsTest, AVmOfThisProcessIsNotFoundEither) {
  Register("own", 0);
  EXPECT_FALSE(found_.Update({Vm(getpid(), "qemu-name")}));
}

TEST_F(FoundVmsTest, WhatWasFoundGivesWayToAVmmThatRegisters) {
  found_.Update({Vm(70, "db-7"), Vm(71, "other-name"), Vm(72, "stays")});
  const auto by_name = Register("db-7", 70);
  EXPECT_EQ(Find("db-7"), by_name);
  Register("web2", 71);
  EXPECT_THAT(Ids(), ElementsAre("db-7", "stays", "web2"));
  EXPECT_THAT(events_, Contains("db-7 gives way: its VMM has registered"));
  EXPECT_FALSE(found_.Update({Vm(70, "db-7"), Vm(71, "other-name"), Vm(72, "stays")}));
  registry_.Remove(*by_name);
  EXPECT_TRUE(found_.Update({Vm(70, "db-7"), Vm(71, "other-name"), Vm(72, "stays")}));
  EXPECT_EQ(Find("db-7")->identity().port, PortKind::kAttached) << "its VMM is silent";
}

TEST_F(FoundVmsTest, AnotherProcessThatRegistersTheNameHasIt) {
  found_.Update({Vm(70, "db-7")});
  Register("db-7", 99);
  EXPECT_EQ(Find("db-7")->identity().vmm_pid, 99);
  EXPECT_TRUE(found_.Update({Vm(70, "db-7")}));
  ASSERT_NE(FindByProcess(70), nullptr);
  EXPECT_EQ(ReasonOf(FindByProcess(70)->unreachable()), Reason::kVmAmbiguous);
}

TEST_F(FoundVmsTest, WhatThereIsNoRoomForIsToldOnce) {
  std::vector<FoundVm> many;
  for (pid_t pid = 70; pid < 75; ++pid) many.push_back(Vm(pid, "web" + std::to_string(pid)));
  found_.Update(many);
  EXPECT_EQ(registry_.size(), kMaxVms);
  EXPECT_THAT(events_.back(), HasSubstr("web74 found, and left out: "));
  const size_t told = events_.size();
  EXPECT_FALSE(found_.Update(many));
  EXPECT_EQ(events_.size(), told);
  many.erase(many.begin());
  found_.Update(many);
  EXPECT_NE(Find("web74"), nullptr);
}

TEST_F(FoundVmsTest, RunStatesAreAsSeen) {
  found_.Update({Vm(70, "web1")});
  EXPECT_EQ(Find("web1")->run_state(), registry::RunState::kUnknown);
  found_.NoteRunStates([](const FoundVm&) { return true; });
  EXPECT_EQ(Find("web1")->run_state(), registry::RunState::kPaused);
  found_.NoteRunStates([](const FoundVm&) { return std::optional<bool>(); });
  EXPECT_EQ(Find("web1")->run_state(), registry::RunState::kPaused);
  found_.NoteRunStates([](const FoundVm&) { return false; });
  EXPECT_EQ(Find("web1")->run_state(), registry::RunState::kRunning);
}

}  // namespace
}  // namespace tsc_handoff::agent
