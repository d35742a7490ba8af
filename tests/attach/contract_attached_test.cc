// The contract through the attach port, on simulated hosts.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/attach/attached_access.h"
#include "tests/contract/contract_suite.h"
#include "tests/contract/sim_backend.h"

namespace tsc_handoff::contract {

// Those are of the caller's own progress, and of the permit, which an attached VMM does not take.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DirectAccessOnly);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PortAccessOnly);

namespace {

ContractParam Simulated(const std::string& name, sim::SimHostOptions options) {
  options.real_fds = false;
  options.record_calls = false;
  return {name + "Attached", [options] { return MakeSimBackend(options); }, AttachedAccess, false};
}

sim::SimHostOptions Vmx2100() {
  return {.clock = {.tsc_khz = 2'100'000},
          .kvm = {.vendor = sim::Vendor::kVmx, .tsc_control = true}};
}

std::vector<ContractParam> Keeping() {
  const sim::SimHostOptions svm = {.clock = {.tsc_khz = 3'500'000},
                                   .kvm = {.vendor = sim::Vendor::kSvm, .tsc_control = false}};
  return {Simulated("Vmx2100MHzScaling", Vmx2100()), Simulated("Svm3500MHz", svm)};
}

std::vector<ContractParam> Scaling() { return {Simulated("Vmx2100MHzScaling", Vmx2100())}; }

std::vector<ContractParam> Protected() {
  sim::SimHostOptions options = Vmx2100();
  options.kvm.tsc_protected = true;
  return {Simulated("VmxProtected", options)};
}

INSTANTIATE_CONTRACT(SimulatedProtected, AnyKernel, Protected());
INSTANTIATE_CONTRACT(Simulated, ProtectedKernel, Protected());
INSTANTIATE_CONTRACT(Simulated, AnyKernel, Keeping());
INSTANTIATE_CONTRACT(Simulated, KeepingKernel, Keeping());
INSTANTIATE_CONTRACT(Simulated, ScalingKernel, Scaling());
INSTANTIATE_CONTRACT(Simulated, MasterClockKernel, Keeping());

}  // namespace
}  // namespace tsc_handoff::contract
