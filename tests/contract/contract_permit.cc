// The contract, fourth part: the permit to run. Whoever holds a VM's TSCs for a handoff holds its
// permit, and nobody runs it meanwhile. Of ports only, since the VMM's library keeps the permit.

#include <errno.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tests/contract/contract_suite.h"
#include "tests/contract/port_access.h"

namespace tsc_handoff::contract {
namespace {

using port::Hold;

constexpr int kPatienceMs = 20'000;

bool Await(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

// The VMM's own view. Sentences are empty when the library agrees.
class Vmm {
 public:
  explicit Vmm(Access& access) : session_(dynamic_cast<VmmSession&>(access)) {}

  std::string Resume() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_resume(session_.vmm(), why) == 0 ? "" : why;
  }
  void Pause() { tsc_vmm_pause(session_.vmm()); }
  std::string WhyNot() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_may_run(session_.vmm(), why) == 1 ? "" : why;
  }
  std::string AwaitPermit() {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_wait_permit(session_.vmm(), kPatienceMs, why) == 0 ? "" : why;
  }
  std::string AwaitRegistered(int timeout_ms = kPatienceMs) {
    char why[TSC_VMM_ERROR_SIZE] = "";
    return tsc_vmm_wait_registered(session_.vmm(), timeout_ms, why) == 0 ? "" : why;
  }
  VmmSession* operator->() { return &session_; }

 private:
  VmmSession& session_;
};

constexpr char kTaken[] = "a handoff has taken its permit";

TEST_P(PortAccessOnly, PermitIsTakenByACaptureThatHoldsAndGivenBackByAGrant) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  EXPECT_EQ(vmm.Resume(), "");
  vmm.Pause();
  EXPECT_EQ(vmm->Capture(Hold::kYes).fault.outcome, TSC_KVM_OK);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, kTaken, vmm.WhyNot());
  EXPECT_PRED_FORMAT2(testing::IsSubstring, kTaken, vmm.Resume());
  vmm->Deny("it is in handoff h-1");
  EXPECT_TRUE(Await([&] {
    return vmm.WhyNot() == "the VM may not run here: it is in handoff h-1";
  })) << vmm.WhyNot();
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "it is in handoff h-1", vmm.Resume());
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitPermit(), "");
  EXPECT_EQ(vmm.Resume(), "");
}

TEST_P(PortAccessOnly, PermitIsTakenByAWriteThatHolds) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  const std::vector<tsc_vcpu_state> wanted = OddStates();
  EXPECT_EQ(vmm->Apply(Target(0), wanted, Hold::kYes).fault.outcome, TSC_KVM_OK);
  ExpectOffsetsInForce(wanted);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, kTaken, vmm.Resume());
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitPermit(), "");
}

TEST_P(PortAccessOnly, PermitIsLeftAloneByCallsThatDoNotHold) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  EXPECT_EQ(vmm->Capture(Hold::kNo).fault.outcome, TSC_KVM_OK);
  EXPECT_EQ(vmm->Apply(Target(0), OddStates(), Hold::kNo).fault.outcome, TSC_KVM_OK);
  EXPECT_EQ(vmm.WhyNot(), "");
  EXPECT_EQ(vmm.Resume(), "");
}

TEST_P(PortAccessOnly, PermitIsLeftToAVmThatRuns) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  ASSERT_EQ(vmm.Resume(), "");
  EXPECT_EQ(vmm->Capture(Hold::kYes).fault.outcome, TSC_KVM_BLOCKED) << "VM_RUNNING";
  EXPECT_EQ(vmm->Apply(Target(0), OddStates(), Hold::kYes).fault.outcome, TSC_KVM_BLOCKED);
  EXPECT_EQ(vmm.WhyNot(), "");
  vmm.Pause();
  EXPECT_EQ(vmm.Resume(), "");
}

TEST_P(PortAccessOnly, PermitIsGoneAfterAWriteThatFailed) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  const VmSnapshot before = Snapshot();
  vm_->interposer().Reset();
  vm_->interposer().FailCall(3ull * count() + 2, ENOMEM);
  EXPECT_EQ(vmm->Apply(Target(0), OddStates(), Hold::kYes).fault.outcome, TSC_KVM_FAILED);
  vm_->interposer().Reset();
  ExpectAsBefore(before);
  EXPECT_NE(vmm.Resume(), "") << "only the agent knows what is to become of it";
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitPermit(), "");
}

TEST_P(PortAccessOnly, PermitIsGoneAfterACaptureThatWasGivenUp) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  ASSERT_TRUE(vm_->Block(1).ok());
  EXPECT_EQ(vmm->Capture(Hold::kYes).fault.outcome, TSC_KVM_BLOCKED);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, kTaken, vmm.WhyNot());
  EXPECT_TRUE(vm_->Unblock(1).ok());
  EXPECT_PRED_FORMAT2(testing::IsSubstring, kTaken, vmm.Resume());
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitPermit(), "");
  EXPECT_EQ(vmm.Resume(), "");
}

TEST_P(PortAccessOnly, PermitIsLeftAloneByACaptureThatDoesNotBegin) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  ASSERT_TRUE(vm_->Block(1).ok());
  EXPECT_EQ(vmm->Capture(Hold::kNo).fault.outcome, TSC_KVM_BLOCKED);
  EXPECT_EQ(vmm->Capture(Hold::kYes).fault.outcome, TSC_KVM_BLOCKED) << "behind the first";
  EXPECT_EQ(vmm.WhyNot(), "");
  EXPECT_TRUE(vm_->Unblock(1).ok());
  EXPECT_TRUE(Await([&] { return vmm.Resume().empty(); }));
}

TEST_P(PortAccessOnly, PermitIsTakenInWhileAnOperationIsUnderWay) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  ASSERT_TRUE(vm_->Block(1).ok());
  CaptureResult captured;
  std::thread capture([&] { captured = vmm->Capture(Hold::kYes); });
  EXPECT_TRUE(Await([&] { return !vmm.WhyNot().empty(); }));
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitPermit(), "");
  std::string resumed;
  std::thread resume([&] { resumed = vmm.Resume(); });  // waits for the operation
  EXPECT_TRUE(vm_->Unblock(1).ok());
  capture.join();
  resume.join();
  // On a busy machine its time may have been over.
  EXPECT_TRUE(captured.fault.outcome == TSC_KVM_OK || captured.fault.outcome == TSC_KVM_BLOCKED);
  EXPECT_EQ(resumed, "");
}

TEST_P(PortAccessOnly, PermitIsNotThereBeforeTheAgentsFirstWord) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  auto session = VmmSession::Open(*vm_, {.first_permit = false});
  ASSERT_TRUE(session.ok()) << session.status();
  Vmm vmm(**session);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "has not said whether", vmm.AwaitRegistered(10));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "has not said yet", vmm.WhyNot());
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "has not said yet", vmm.Resume());
  EXPECT_EQ(vmm->Capture(Hold::kYes).fault.outcome, TSC_KVM_OK);
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitRegistered(), "");
  EXPECT_EQ(vmm.Resume(), "");
}

TEST_P(PortAccessOnly, PermitOutlivesTheAgent) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  vmm->EndConnection();
  EXPECT_TRUE(Await([&] { return !vmm.AwaitRegistered(0).empty(); }));
  EXPECT_EQ(vmm.Resume(), "");
  vmm.Pause();
  EXPECT_EQ(vmm.Resume(), "");
}

TEST_P(PortAccessOnly, PermitDoesNotComeBackWhenTheAgentDies) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  Vmm vmm(*access_);
  EXPECT_EQ(vmm->Capture(Hold::kYes).fault.outcome, TSC_KVM_OK);
  vmm->EndConnection();
  EXPECT_TRUE(Await([&] {
    return vmm.WhyNot().find("its agent is not connected") != std::string::npos;
  })) << vmm.WhyNot();
  EXPECT_PRED_FORMAT2(testing::IsSubstring, kTaken, vmm.Resume());
}

TEST_P(PortAccessOnly, PermitIsAwaitedByADestination) {
  ASSERT_NO_FATAL_FAILURE(MakeVm());
  auto session = VmmSession::Open(*vm_, {.awaits_handoff = true, .first_permit = false});
  ASSERT_TRUE(session.ok()) << session.status();
  Vmm vmm(**session);
  EXPECT_EQ(vmm->hello().flags, uint32_t{TSC_WIRE_AWAITS_HANDOFF});
  EXPECT_TRUE(std::any_of(std::begin(vmm->hello().instance), std::end(vmm->hello().instance),
                          [](unsigned char byte) { return byte != 0; }));
  vmm->Deny("it awaits a handoff, and none has arrived");
  EXPECT_EQ(vmm.AwaitRegistered(), "");
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "none has arrived", vmm.Resume());
  EXPECT_EQ(vmm->Apply(Target(0), OddStates(), Hold::kYes).fault.outcome, TSC_KVM_OK);
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "none has arrived", vmm.Resume());
  vmm->Grant();
  EXPECT_EQ(vmm.AwaitPermit(), "");
  EXPECT_EQ(vmm.Resume(), "");
}

}  // namespace
}  // namespace tsc_handoff::contract
