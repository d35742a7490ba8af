// The way through the agent's cooperative port: a tsc_vmm session in this process serves the VM
// over a socket pair, and a CooperativePort talks to it.
//
// Threading: see access.h.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_PORT_ACCESS_H_
#define TSC_HANDOFF_TESTS_CONTRACT_PORT_ACCESS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "tests/contract/access.h"

namespace tsc_handoff::contract {

// The VM's descriptors must be real ones.
absl::StatusOr<std::unique_ptr<Access>> CooperativeAccess(ContractVm& vm);

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_PORT_ACCESS_H_
