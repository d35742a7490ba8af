// Confines this process to the system calls that a serving agent makes: whoever overtakes it starts
// no program, makes no process, and asks the kernel for little else. For good: nothing takes a
// filter away again.
//
// Threading: may be called from any thread; it binds all of them, and those that they start.
#ifndef TSC_HANDOFF_SERVER_CONFINE_SYSTEM_CALL_FILTER_H_
#define TSC_HANDOFF_SERVER_CONFINE_SYSTEM_CALL_FILTER_H_

#include "absl/status/status.h"

namespace tsc_handoff::confine {

// What happens to another system call.
enum class Forbidden {
  kRefused,  // it returns EPERM, and the kernel's audit log names it
  kKills,    // SIGSYS ends the process: for tests, which must notice
};

struct SystemCallFilter {
  Forbidden forbidden = Forbidden::kRefused;
  // Also what attaching to the processes of others takes: ptrace, process_vm_*, pidfd_getfd, ...
  bool attach = false;
};

// An error (without a Reason) says what to do; the process is then hardly confined.
absl::Status Confine(const SystemCallFilter& filter);

}  // namespace tsc_handoff::confine

#endif  // TSC_HANDOFF_SERVER_CONFINE_SYSTEM_CALL_FILTER_H_
