// KernelClockSource: what the kernel says of its clock (adjtimex), as any clock daemon keeps it.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_KERNEL_CLOCK_SOURCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_KERNEL_CLOCK_SOURCE_H_

#include <cstdint>

#include "server/clock/clock_source.h"
#include "server/clock/kernel_timex.h"
#include "server/clock/kernel_update_watch.h"

namespace tsc_handoff::clock {

class KernelClockSource final : public ClockSource {
 public:
  explicit KernelClockSource(Adjtimex adjtimex = SystemAdjtimex);

  // The bound is maxerror, as of up to a second ago. kUnsynchronised when the kernel says so;
  // kNoAnswer when adjtimex fails or what it gives makes no sense.
  SourceReport Ask(int64_t monotonic_ns) override;

 private:
  const Adjtimex adjtimex_;
  KernelUpdateWatch updates_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_KERNEL_CLOCK_SOURCE_H_
