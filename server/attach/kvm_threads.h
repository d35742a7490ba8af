// Which threads of a process execute vCPUs: those inside ioctl(KVM_RUN).
//
// A thread that waits can be looked at through /proc. One that is on a CPU cannot, so it is stopped
// for an instant (signal-free: KVM_RUN answers EINTR, which a VMM expects at any time) and its
// registers tell.
//
// Threading: VcpusExecute and VcpusMayExecute from any thread; HoldExecutingThreads on the tracing
// thread.
#ifndef TSC_HANDOFF_SERVER_ATTACH_KVM_THREADS_H_
#define TSC_HANDOFF_SERVER_ATTACH_KVM_THREADS_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/attach/proc_text.h"
#include "server/attach/target.h"
#include "server/attach/tracee.h"

namespace tsc_handoff::attach {

// Whether this system call is KVM_RUN on one of these descriptors.
bool IsKvmRun(int64_t number, uint64_t fd, uint64_t request, const std::vector<int>& vcpu_fds);

// Whether a thread of `target` executes one of the vCPUs. A thread that cannot be looked at counts
// as one that does.
absl::StatusOr<bool> VcpusExecute(const Target& target, const std::vector<int>& vcpu_fds);

// The same, as far as /proc alone tells, with nobody stopped: nullopt when it does not, because a
// thread is on a CPU or may not be looked at.
std::optional<bool> VcpusSeenExecuting(const Target& target, const std::vector<int>& vcpu_fds);

// Whether a thread other than `except` may execute one of them, as far as /proc tells without
// stopping it.
bool VcpusMayExecute(const Target& target, const std::vector<int>& vcpu_fds, pid_t except);

// Takes the threads that execute one of the vCPUs out of KVM_RUN and holds them stopped for as long
// as the result lives. `except` is left alone.
std::vector<Tracee> HoldExecutingThreads(const Target& target, const std::vector<int>& vcpu_fds,
                                         pid_t except);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_KVM_THREADS_H_
