// Keeps this process's memory, which holds states and the secrets of handoffs, to itself: no core
// dump, and no look into it by processes of the same user. A debugger needs CAP_SYS_PTRACE.
//
// Threading: for the whole process; call it early.
#ifndef TSC_HANDOFF_SERVER_CONFINE_CORE_DUMPS_H_
#define TSC_HANDOFF_SERVER_CONFINE_CORE_DUMPS_H_

#include "absl/status/status.h"

namespace tsc_handoff::confine {

// An error (without a Reason) says why the kernel refused.
absl::Status ForbidCoreDumps();

}  // namespace tsc_handoff::confine

#endif  // TSC_HANDOFF_SERVER_CONFINE_CORE_DUMPS_H_
