// Runs a job (job.h) inside another process, on one of its threads, which is stopped meanwhile: the
// payload and the job are copied into memory that is made for them, run once, read back, and
// removed. Two stops on the way and one at the end, however much the job does.
//
// What the thread was doing does not notice: its registers, its signal mask and the system call
// that it waits in are as they were, signals that come meanwhile wait, and the process's memory map
// is the same before and after. See RegistersToRestore for the calls that answer EINTR.
//
// If this process dies. There is no instant at which that does harm:
//   before the registers are set      the thread has only been stopped, and goes on
//   from then until they are restored the thread runs the stub and, if it was told to, the payload
//   to their end, and
//                                     puts itself back (stub.S). A job that had begun is done; an
//                                     apply is all or nothing even so. Left over: some 600 bytes in
//                                     the end of the vDSO's page.
//   after that                        the thread goes on. The same may be left over.
// The next injection takes another place, so what is left over is never written while it may run.
//
// If the thread does not come to its report in time, the tracing thread ends without it, which is
// the same as dying.
//
// What a caller must know: a job must not make calls for which the kernel keeps what is left of
// their time (nanosleep, poll, futex with a limit), since it keeps one such record per thread, the
// thread's own; KVM's ioctls do not. System calls that the stub and the payload make are subject to
// the process's seccomp filter; a child that another thread forks meanwhile inherits the scratch
// memory and never uses it.
//
// Threading: on a thread that ends afterwards (OnTracingThread).
#ifndef TSC_HANDOFF_SERVER_ATTACH_INJECTION_H_
#define TSC_HANDOFF_SERVER_ATTACH_INJECTION_H_

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/attach/refusal.h"
#include "server/attach/target.h"

namespace tsc_handoff::attach {

struct InjectionOptions {
  AttachPolicy policy;
  // A job that has not taken a step for this long is suspected to hang. If `hangs` (true where
  // there is none) says so too, for a busy machine may just not have let it run, it is cancelled,
  // and `on_hang` called, once. It has until `timeout` after its beginning. Both are called on the
  // tracing thread.
  absl::Duration hang_after = absl::Milliseconds(100);
  absl::Duration timeout = absl::Milliseconds(700);
  std::function<bool()> hangs;
  std::function<void()> on_hang;
};

struct InjectionResult {
  std::vector<std::byte> job;  // as the payload left it
  bool cancelled = false;      // it hung; what the job says of itself counts
  absl::Duration stopped_for;  // how long the thread was kept from its own work
};

// `job` begins with an attach_job. Errors: kAttachRefused with metadata `refusal`, before anything
// was changed, when the thread is not to be borrowed; kVmmGone when it ended meanwhile; kVmRunning
// when the job hung and did not end within `timeout` either, whereupon the thread goes on by itself
// as soon as it can; kInternalError.
absl::StatusOr<InjectionResult> RunInThread(const Target& target, pid_t tid,
                                            std::vector<std::byte> job,
                                            const InjectionOptions& options);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_INJECTION_H_
