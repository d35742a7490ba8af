// The contract through the attach port, on this machine's /dev/kvm. Run as root with debugfs
// mounted.

#include <cstdio>
#include <vector>

#include "gtest/gtest.h"
#include "tests/attach/attached_access.h"
#include "tests/contract/contract_suite.h"
#include "tests/contract/real_backend.h"

namespace tsc_handoff::contract {

// Those are of the caller's own progress, and of the permit, which an attached VMM does not take.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DirectAccessOnly);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PortAccessOnly);

namespace {

const std::vector<ContractParam> kAttached = {{"Attached", MakeRealBackend, AttachedAccess, false}};

INSTANTIATE_CONTRACT(RealKvm, AnyKernel, kAttached);
INSTANTIATE_CONTRACT(RealKvm, KeepingKernel, kAttached);
INSTANTIATE_CONTRACT(RealKvm, ProtectedKernel, kAttached);
INSTANTIATE_CONTRACT(RealKvm, ScalingKernel, kAttached);
INSTANTIATE_CONTRACT(RealKvm, MasterClockKernel, kAttached);

}  // namespace
}  // namespace tsc_handoff::contract

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!tsc_handoff::contract::MakeRealBackend().ok()) {
    fprintf(stderr, "contract_attached_kvm: this machine has no KVM to test\n");
    return 1;
  }
  return RUN_ALL_TESTS();
}
