// The contract on simulated hosts, of both vendors, with and without scaling.

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/contract/contract_suite.h"
#include "tests/contract/port_access.h"
#include "tests/contract/sim_backend.h"

namespace tsc_handoff::contract {
namespace {

ContractParam Simulated(const std::string& name, sim::SimHostOptions options, bool direct) {
  options.real_fds = !direct;
  options.record_calls = false;
  return {name + (direct ? "Direct" : "Cooperative"), [options] { return MakeSimBackend(options); },
          direct ? DirectAccess : CooperativeAccess, direct};
}

sim::SimHostOptions Vmx2100() {
  return {.clock = {.tsc_khz = 2'100'000},
          .kvm = {.vendor = sim::Vendor::kVmx, .tsc_control = true}};
}

sim::SimHostOptions Svm3500() {
  return {.clock = {.tsc_khz = 3'500'000},
          .kvm = {.vendor = sim::Vendor::kSvm, .tsc_control = false}};
}

std::vector<ContractParam> Scaling(bool direct) {
  sim::SimHostOptions svm = Svm3500();
  svm.kvm.tsc_control = true;
  return {Simulated("Vmx2100MHzScaling", Vmx2100(), direct),
          Simulated("Svm3500MHzScaling", svm, direct)};
}

std::vector<ContractParam> Protected() {
  sim::SimHostOptions options = Vmx2100();
  options.kvm.tsc_protected = true;
  return {Simulated("VmxProtected", options, true), Simulated("VmxProtected", options, false)};
}

std::vector<ContractParam> MasterClock(bool direct) {
  std::vector<ContractParam> out = Scaling(direct);
  out.push_back(Simulated("Svm3500MHz", Svm3500(), direct));
  // Starts just before 2^64, so that the host's own TSC wraps during the tests.
  sim::SimHostOptions wrapping = Vmx2100();
  wrapping.clock.tsc_start_ticks = uint64_t{0} - uint64_t{2'100'000} * 1000 * 3600 - 500'000;
  wrapping.kvm.tsc_control = false;
  out.push_back(Simulated("VmxWrapping", wrapping, direct));
  return out;
}

std::vector<ContractParam> Keeping(bool direct) {
  std::vector<ContractParam> out = MasterClock(direct);
  sim::SimHostOptions no_master_clock = Svm3500();
  no_master_clock.kvm.tsc_clocksource = false;
  out.push_back(Simulated("SvmOtherClocksource", no_master_clock, direct));
  return out;
}

std::vector<ContractParam> Both(std::vector<ContractParam> (*list)(bool)) {
  std::vector<ContractParam> out = list(true);
  for (ContractParam& param : list(false)) out.push_back(std::move(param));
  return out;
}

INSTANTIATE_CONTRACT(SimulatedProtected, AnyKernel, Protected());
INSTANTIATE_CONTRACT(Simulated, ProtectedKernel, Protected());
INSTANTIATE_CONTRACT(Simulated, AnyKernel, Both(Keeping));
INSTANTIATE_CONTRACT(Simulated, KeepingKernel, Both(Keeping));
INSTANTIATE_CONTRACT(Simulated, ScalingKernel, Both(Scaling));
INSTANTIATE_CONTRACT(Simulated, MasterClockKernel, Both(MasterClock));
INSTANTIATE_CONTRACT(Simulated, DirectAccessOnly, Keeping(true));
// Each takes most of a second, which is the port's timeout.
INSTANTIATE_CONTRACT(Simulated, PortAccessOnly,
                     std::vector<ContractParam>{Simulated("Svm3500MHz", Svm3500(), false)});

}  // namespace
}  // namespace tsc_handoff::contract
