// ChronySource: a ClockSource that reports what chronyd would say of a Discipline. What its figures
// mean is decided by the delivered code; only the way to chronyd is left out.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_CHRONY_SOURCE_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_CHRONY_SOURCE_H_

#include <cstdint>

#include "server/clock/chrony_protocol.h"
#include "server/clock/chrony_report.h"
#include "server/clock/clock_source.h"
#include "tests/clock_sim/discipline.h"
#include "tests/clock_sim/kernel_ntp.h"
#include "tests/clock_sim/sim_clocks.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

class ChronySource final : public clock::ClockSource {
 public:
  // From `silent_from_ps` to `silent_until_ps` it steers the clock on and does not answer.
  ChronySource(const World& world, const SimClocks& clocks, const Discipline& discipline,
               const KernelNtp& kernel, int64_t silent_from_ps, int64_t silent_until_ps)
      : world_(world),
        clocks_(clocks),
        discipline_(discipline),
        kernel_(kernel),
        silent_from_ps_(silent_from_ps),
        silent_until_ps_(silent_until_ps) {}

  clock::SourceReport Ask(int64_t monotonic_ns) override;

 private:
  clock::ChronyTracking Tracking() const;

  const World& world_;
  const SimClocks& clocks_;
  const Discipline& discipline_;
  const KernelNtp& kernel_;
  const int64_t silent_from_ps_;
  const int64_t silent_until_ps_;
  clock::UpdateNames names_;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_CHRONY_SOURCE_H_
