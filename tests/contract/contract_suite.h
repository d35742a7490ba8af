// The contract: what capture and apply of a VM must do, whatever the kernel behind (simulated or
// real) and whichever way leads to it (directly, through a port). The tests are in contract_*.cc; a
// binary instantiates them with INSTANTIATE_CONTRACT for the kernels and ways that it has.
//
// Each fixture says in its name which kernels its tests are for, and skips on others.
//
// Threading: one test at a time.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_CONTRACT_SUITE_H_
#define TSC_HANDOFF_TESTS_CONTRACT_CONTRACT_SUITE_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "tests/contract/access.h"
#include "tests/contract/contract_vm.h"
#include "tests/contract/kvm_raw.h"

namespace tsc_handoff::contract {

struct ContractParam {
  std::string name;  // letters and digits
  std::function<absl::StatusOr<std::unique_ptr<Backend>>()> backend;
  AccessFactory access;
  bool direct = true;  // the caller can read progress and cancel
};

std::ostream& operator<<(std::ostream& out, const ContractParam& param);

class AnyKernel : public testing::TestWithParam<ContractParam> {
 protected:
  void SetUp() override;

  // Makes the VM under test. Use with ASSERT_NO_FATAL_FAILURE.
  void MakeVm(const VmSpec& spec = {});

  uint32_t count() const { return vm_->vm().vcpu_count; }
  uint32_t IdAt(uint32_t i) const { return vm_->vm().vcpus[i].id; }
  int FdAt(uint32_t i) const { return vm_->vm().vcpus[i].fd; }
  const HostTraits& traits() const { return backend_->traits(); }

  // States for every vCPU that differ from each other and from a new VM's; `variant` makes other
  // ones.
  std::vector<tsc_vcpu_state> OddStates(uint64_t variant = 0) const;
  // The same with one offset for all.
  std::vector<tsc_vcpu_state> EqualStates(uint64_t offset_ticks) const;
  // kvmclock a day after the VM was made, now. With `realtime` the kernel is to add what passes
  // until it is set.
  tsc_kvm_target Target(uint32_t flags, bool realtime = false) const;
  // Gives the VM states that no new VM has: unequal phases, adjustments, armed timers where it has
  // deadline timers, a frequency of its own.
  void GiveItAPast();
  // Enters every vCPU once.
  void RunAll();
  VmSnapshot Snapshot();
  // That everything is as in `before`; with the hardware's own view where there is an oracle.
  void ExpectAsBefore(const VmSnapshot& before);
  void ExpectNoWrites();
  // Asks the oracle, where there is one, whether the vCPUs have these offsets.
  void ExpectOffsetsInForce(const std::vector<tsc_vcpu_state>& wanted);

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<ContractVm> vm_;
  std::unique_ptr<Access> access_;
};

class KeepingKernel : public AnyKernel {
 protected:
  void SetUp() override;
};

class ProtectedKernel : public AnyKernel {
 protected:
  void SetUp() override;
};

class ScalingKernel : public KeepingKernel {
 protected:
  void SetUp() override;
};

class MasterClockKernel : public KeepingKernel {
 protected:
  void SetUp() override;
};

// With the caller in reach of the operation's progress, and through a port.
class DirectAccessOnly : public KeepingKernel {
 protected:
  void SetUp() override;
};

class PortAccessOnly : public KeepingKernel {
 protected:
  void SetUp() override;
};

// Steps as a fault can tell them: a port's fault names the ioctl, which reading and verifying
// share.
const char* StepName(uint32_t step, bool direct = true);

}  // namespace tsc_handoff::contract

// Within namespace tsc_handoff::contract: runs the tests of one fixture with each of the params.
#define INSTANTIATE_CONTRACT(prefix, fixture, params)                  \
  INSTANTIATE_TEST_SUITE_P(prefix, fixture, testing::ValuesIn(params), \
                           [](const auto& test) { return test.param.name; })

#endif  // TSC_HANDOFF_TESTS_CONTRACT_CONTRACT_SUITE_H_
