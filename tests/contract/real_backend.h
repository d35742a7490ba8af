// The machine's own /dev/kvm as a backend of the contract suite.
//
// Threading: see contract_vm.h.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_REAL_BACKEND_H_
#define TSC_HANDOFF_TESTS_CONTRACT_REAL_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "tests/contract/contract_vm.h"

namespace tsc_handoff::contract {

// UNAVAILABLE, with the reason, where there is no usable KVM.
absl::StatusOr<std::unique_ptr<Backend>> MakeRealBackend();

// Whether debugfs shows this process' VMs, which makes it the oracle.
bool HasDebugfs();

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_REAL_BACKEND_H_
