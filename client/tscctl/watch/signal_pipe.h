// Turns signals into bytes that a loop reads with everything else it waits for. One at a time, for
// a signal's handler reaches nothing but globals.
//
// Threading: one thread's; the signals themselves may arrive at any.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_SIGNAL_PIPE_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_SIGNAL_PIPE_H_

#include <signal.h>

#include <optional>
#include <utility>
#include <vector>

namespace tsc_handoff::tscctl {

class SignalPipe {
 public:
  // A signal that is ignored stays so: whoever started this process wants that.
  explicit SignalPipe(const std::vector<int>& signals);
  // The signals mean again what they meant before.
  ~SignalPipe();
  SignalPipe(const SignalPipe&) = delete;
  SignalPipe& operator=(const SignalPipe&) = delete;

  // Readable while there is a signal to take.
  int fd() const { return ends_[0]; }
  // The next signal; nothing when there is none. Never waits.
  std::optional<int> Take();

 private:
  int ends_[2] = {-1, -1};
  std::vector<std::pair<int, struct sigaction>> before_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_SIGNAL_PIPE_H_
