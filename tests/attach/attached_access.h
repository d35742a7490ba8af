// The way through the agent's attach port: a process of its own attaches to this one, as the agent
// does to a VMM, and borrows a thread that is kept for it. The code that it injects calls the
// interposer, so faults can be produced.
//
// Threading: see tests/contract/access.h.
#ifndef TSC_HANDOFF_TESTS_ATTACH_ATTACHED_ACCESS_H_
#define TSC_HANDOFF_TESTS_ATTACH_ATTACHED_ACCESS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "tests/contract/access.h"

namespace tsc_handoff::contract {

absl::StatusOr<std::unique_ptr<Access>> AttachedAccess(ContractVm& vm);

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_ATTACH_ATTACHED_ACCESS_H_
