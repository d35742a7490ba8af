// KernelNtp: adjtimex(2) of a simulated host, as the clock daemon keeps it. The daemon tells the
// kernel its error at each update; by itself the kernel adds 500 us at each turn of a second.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_KERNEL_NTP_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_KERNEL_NTP_H_

#include <sys/timex.h>

#include "tests/clock_sim/discipline.h"
#include "tests/clock_sim/leap_second.h"
#include "tests/clock_sim/sim_clocks.h"

namespace tsc_handoff::clock_sim {

class KernelNtp {
 public:
  // `tunes`: whether the daemon also sets the frequency at each update, which shows that it was
  // one.
  KernelNtp(const SimClocks& clocks, const Discipline& discipline, const LeapSecond& leap_second,
            bool tunes)
      : clocks_(clocks), discipline_(discipline), leap_second_(leap_second), tunes_(tunes) {}

  // The clock's state, as adjtimex(2) returns it; never fails.
  int Adjtimex(timex& values) const;

 private:
  const SimClocks& clocks_;
  const Discipline& discipline_;
  const LeapSecond& leap_second_;
  const bool tunes_;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_KERNEL_NTP_H_
