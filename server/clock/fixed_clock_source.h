// FixedClockSource: somebody vouches for a bound, whatever the kernel says of its clock.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_FIXED_CLOCK_SOURCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_FIXED_CLOCK_SOURCE_H_

#include <cstdint>

#include "server/clock/clock_source.h"
#include "server/clock/kernel_timex.h"

namespace tsc_handoff::clock {

class FixedClockSource final : public ClockSource {
 public:
  // A bound of 0 or less is no bound: every answer is kNoAnswer.
  explicit FixedClockSource(int64_t error_bound_ns, Adjtimex adjtimex = SystemAdjtimex);

  // Has no updates to see. TAI offset and leap second are the kernel's, where adjtimex answers.
  SourceReport Ask(int64_t monotonic_ns) override;

 private:
  const int64_t error_bound_ns_;
  const Adjtimex adjtimex_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_FIXED_CLOCK_SOURCE_H_
