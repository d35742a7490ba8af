// KernelUpdateWatch: sees from the kernel's NTP values, looked at now and then, whether a clock
// daemon is still at work.
//
// The kernel by itself does not tell: after the daemon's last word it adds 500 us to maxerror at
// every turn of a second and says "synchronised" until 16 s are reached, 8.9 hours later. So
// whatever maxerror does otherwise is a daemon's doing, and so is any change of the other values
// that a daemon sets.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_KERNEL_UPDATE_WATCH_H_
#define TSC_HANDOFF_SERVER_CLOCK_KERNEL_UPDATE_WATCH_H_

#include <sys/timex.h>

#include <cstdint>
#include <optional>

namespace tsc_handoff::clock {

struct KernelUpdates {
  int64_t id = 0;  // counts the renewals of maxerror seen
  // Since the latest of them, at the most: it counts when that may have happened, not when it was
  // seen, which for an error that is always stated the same is seconds later.
  int64_t since_ns = 0;
  int64_t interval_ns = 0;  // between the last two renewals of maxerror that were seen; 0 before
};

class KernelUpdateWatch {
 public:
  // Takes in what adjtimex gave at `monotonic_ns`, or up to half a second later. At the first look,
  // the latest update lies back as long as maxerror takes to grow to its value from 0, at most.
  KernelUpdates Note(const timex& values, int64_t monotonic_ns);

 private:
  bool MaxErrorRenewed(const timex& values, int64_t monotonic_ns) const;

  bool first_ = true;
  timex last_look_ = {};
  // From where maxerror has grown by itself, as far as can be seen. Not the last look: in the
  // second between two of them, a daemon that always states one error could not be told from the
  // kernel.
  int64_t base_max_error_us_ = 0;
  int64_t base_ns_ = 0;
  std::optional<int64_t> renewed_ns_;
  int64_t last_look_ns_ = 0;
  int64_t renewed_after_ns_ = 0;
  KernelUpdates updates_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_KERNEL_UPDATE_WATCH_H_
