// Whether a thread is on its way out: it has ended, was killed, or its process has given its memory
// up already. Such a process loses one thing after another, and what fails then has that reason.
//
// Threading: from any thread.
#ifndef TSC_HANDOFF_SERVER_ATTACH_ENDING_H_
#define TSC_HANDOFF_SERVER_ATTACH_ENDING_H_

#include <sys/types.h>

#include "server/attach/target.h"

namespace tsc_handoff::attach {

bool IsEnding(const Target& target, pid_t tid);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_ENDING_H_
