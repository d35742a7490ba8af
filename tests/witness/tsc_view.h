// An independent view of a VM's TSCs, straight from the kernel, for tests to compare with what the
// agents say.
//
// The product's only issuer of TSC ioctls is client/vmm/tsc_kvm.c. This is the tests' second
// opinion, so it shares no code with it. It only reads.
//
// Threading: no state; one VM must not be read by two calls at once.
#ifndef TSC_HANDOFF_TESTS_WITNESS_TSC_VIEW_H_
#define TSC_HANDOFF_TESTS_WITNESS_TSC_VIEW_H_

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tests/witness/machine.h"

namespace tsc_handoff::witness {

// Per vCPU the offset attribute, TSC_ADJUST, TSC_DEADLINE and the frequency (null while the VM
// runs, because vCPU ioctls would wait for it), the offset that debugfs shows (null where it is not
// mounted), and kvmclock bracketed by two readings of the host's TSC.
absl::StatusOr<nlohmann::json> ViewTscs(const Machine& machine, bool running);

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_TSC_VIEW_H_
