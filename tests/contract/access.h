// Access: one way to the capture and apply of a VM. The contract holds whichever way is gone:
// calling tsc_kvm_capture and tsc_kvm_apply directly, or through a port of the agent.
//
// Threading: one call at a time; `progress` may be used by another thread meanwhile.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_ACCESS_H_
#define TSC_HANDOFF_TESTS_CONTRACT_ACCESS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/vmm/tsc_kvm.h"
#include "tests/contract/contract_vm.h"

namespace tsc_handoff::contract {

struct CaptureResult {
  tsc_kvm_fault fault = {};
  std::vector<tsc_vcpu_state> vcpus;
  tsc_kvmclock kvmclock = {};
};

struct ApplyResult {
  tsc_kvm_fault fault = {};
  std::vector<tsc_vcpu_state> before;
  std::vector<tsc_vcpu_state> after;
  tsc_kvmclock_result kvmclock = {};
};

class Access {
 public:
  virtual ~Access() = default;
  virtual CaptureResult Capture() = 0;
  virtual ApplyResult Apply(const tsc_kvm_target& target,
                            const std::vector<tsc_vcpu_state>& wanted) = 0;
  // Of the operation under way; nullptr where the caller has no way to it.
  virtual tsc_kvm_progress* progress() { return nullptr; }
};

using AccessFactory = std::function<absl::StatusOr<std::unique_ptr<Access>>(ContractVm&)>;

// tsc_kvm_capture and tsc_kvm_apply, in this thread.
absl::StatusOr<std::unique_ptr<Access>> DirectAccess(ContractVm& vm);

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_ACCESS_H_
