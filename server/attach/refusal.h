// What is found out about a thread before it is touched: why it is not to be borrowed, and by which
// signal the stub can report.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_ATTACH_REFUSAL_H_
#define TSC_HANDOFF_SERVER_ATTACH_REFUSAL_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "server/attach/proc_text.h"

namespace tsc_handoff::attach {

struct AttachPolicy {
  // A seccomp filter may kill the process for a system call that it never makes by itself. What the
  // stub calls: rt_sigprocmask, mmap, mprotect, munmap, tgkill; and the payload: ioctl.
  bool allow_seccomp_filter = false;
};

// A word for programs (metadata `refusal`) and what a person reads, as the end of "thread 17 of
// process 12 ".
struct Refusal {
  absl::string_view word;
  absl::string_view sentence;
};
std::optional<Refusal> WhyNotBorrow(const TaskStatus& status, const AttachPolicy& policy);

// A signal that this process ignores, so that it means nothing to it when nobody traces it: SIGURG
// or SIGWINCH where they have no handler, or one that it has chosen to ignore. nullopt when it
// handles all of them.
std::optional<int> ReportSignal(const TaskStatus& status);

// The thread's signal mask while it is borrowed: all but the report and what a fault of its own
// would raise. (A fault whose signal is blocked kills, and takes the process's handler away first.)
uint64_t MaskWhileBorrowed(uint64_t original, int report_signal);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_REFUSAL_H_
