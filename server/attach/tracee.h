// Tracee: one thread of a target under ptrace. PTRACE_O_EXITKILL is not set: when the tracing
// thread ends, however it does, the kernel lets the tracee go on from where it is.
//
// A tracee that does not stop cannot be let go by any call, only by the end of the tracing thread.
// So all of this is to be used by a thread that is made for it (OnTracingThread).
//
// Errors: kVmmGone when the thread has ended, kAttachRefused when it may not be traced,
// DEADLINE_EXCEEDED without a Reason when it has not stopped in time.
//
// Threading: of the thread that called Seize only.
#ifndef TSC_HANDOFF_SERVER_ATTACH_TRACEE_H_
#define TSC_HANDOFF_SERVER_ATTACH_TRACEE_H_

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/attach/target.h"

namespace tsc_handoff::attach {

struct Stop {
  int signal = 0;  // that is being delivered, or SIGTRAP or a stopping signal with `is_event`
  bool is_event = false;  // the answer to Interrupt, or a group stop: no signal is being delivered
};

class Tracee {
 public:
  // `target` must outlive the tracee.
  static absl::StatusOr<Tracee> Seize(const Target& target, pid_t tid);
  Tracee(Tracee&& other) noexcept;
  Tracee& operator=(Tracee&&) = delete;
  // Detaches a stopped tracee.
  ~Tracee();

  pid_t tid() const { return tid_; }

  // Asks for a stop; wait for it with WaitStop.
  absl::Status Interrupt();
  // `idle` is called now and then while there is nothing to report; its error ends the waiting.
  absl::StatusOr<Stop> WaitStop(absl::Time deadline,
                                const std::function<absl::Status()>& idle = nullptr);

  // REQUIRES for all that follow: the tracee is stopped.
  absl::StatusOr<user_regs_struct> Registers();
  absl::Status SetRegisters(const user_regs_struct& regs);
  // What the mask is outside the system call that the thread may be in (ppoll has one of its own
  // meanwhile).
  absl::StatusOr<uint64_t> SignalMask();
  absl::Status SetSignalMask(uint64_t mask);
  // Whether the kernel itself raised the signal that is being delivered, and not a process by kill.
  absl::StatusOr<bool> SignalIsFault();
  // Where the thread has to be taken back to if it was stopped within a restartable sequence
  // (rseq(2)); `rip` if not.
  absl::StatusOr<uint64_t> AfterRestartableSequence(uint64_t rip);
  // Lets it run on; of the signal that was being delivered nothing is left but `signal`, if that is
  // not 0.
  absl::Status Continue(int signal = 0);
  absl::Status Detach();

 private:
  Tracee(const Target& target, pid_t tid) : target_(&target), tid_(tid) {}
  absl::Status Failure(const char* what);

  const Target* target_;
  pid_t tid_;
  bool stopped_ = false;
  bool gone_ = false;
};

// Runs `work` on a thread of its own and returns when that has ended; what is traced then is let
// go.
void OnTracingThread(const std::function<void()>& work);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_TRACEE_H_
