// Which system calls a serving agent makes, as rules for libseccomp. What is not here is refused; a
// call belongs here when the agent, or a library in it, really makes it after it has started.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_CONFINE_SYSTEM_CALLS_H_
#define TSC_HANDOFF_SERVER_CONFINE_SYSTEM_CALLS_H_

#include <seccomp.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace tsc_handoff::confine {

struct Rule {
  int call = 0;                         // __NR_...
  std::vector<scmp_arg_cmp> when = {};  // all must hold
  uint32_t action = SCMP_ACT_ALLOW;
};

// Calls that libraries try, and do without when they get the error that is `action` here.
std::vector<Rule> Declined();

// Also those above, whose fate is decided there. `self` is the process's own id, the only one that
// it may signal. `attach`: with what it takes to read, change and signal the processes of others.
std::vector<Rule> Allowed(pid_t self, bool attach);

}  // namespace tsc_handoff::confine

#endif  // TSC_HANDOFF_SERVER_CONFINE_SYSTEM_CALLS_H_
