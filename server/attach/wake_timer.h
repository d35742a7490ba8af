// WakeTimer: interrupts this thread's blocking system calls every now and then, so that one that
// has no limit of its own (waitpid) can be left. It uses the signal WakeSignal() of this process,
// for which it installs a handler that does nothing, at the first use.
//
// A call that is begun just after the timer has fired is interrupted when it fires the next time.
//
// Threading: of the thread that made it.
#ifndef TSC_HANDOFF_SERVER_ATTACH_WAKE_TIMER_H_
#define TSC_HANDOFF_SERVER_ATTACH_WAKE_TIMER_H_

#include <signal.h>
#include <time.h>

#include "absl/time/time.h"

namespace tsc_handoff::attach {

inline int WakeSignal() { return SIGRTMIN + 5; }

class WakeTimer {
 public:
  WakeTimer();
  WakeTimer(const WakeTimer&) = delete;
  WakeTimer& operator=(const WakeTimer&) = delete;
  ~WakeTimer();

  // False when the kernel has no timer left; then nothing is ever interrupted.
  bool usable() const { return usable_; }
  void Start(absl::Duration every);
  void Stop();

 private:
  bool usable_ = false;
  timer_t timer_ = {};
};

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_WAKE_TIMER_H_
