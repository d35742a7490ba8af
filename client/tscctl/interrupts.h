// Counts Ctrl-C while it lives, instead of ending the process; from the second on the next one ends
// it again. One at a time, for a signal's handler reaches nothing but globals.
//
// Threading: the static functions may be called from any thread.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_INTERRUPTS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_INTERRUPTS_H_

#include <signal.h>

#include "absl/time/time.h"

namespace tsc_handoff::tscctl {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // How often since the last one was made.
  static int count();
  // Returns true after that long, false at the second Ctrl-C.
  static bool Sleep(absl::Duration duration);

 private:
  struct sigaction before_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_INTERRUPTS_H_
