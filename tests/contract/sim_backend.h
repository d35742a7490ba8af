// The simulated host as a backend of the contract suite.
//
// Threading: see contract_vm.h.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_SIM_BACKEND_H_
#define TSC_HANDOFF_TESTS_CONTRACT_SIM_BACKEND_H_

#include <memory>

#include "tests/contract/contract_vm.h"
#include "tests/sim/sim_host.h"

namespace tsc_handoff::contract {

std::unique_ptr<Backend> MakeSimBackend(const sim::SimHostOptions& options);

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_SIM_BACKEND_H_
