// What a guest's TSC and a peer's really are, by true time: no clock of a host is asked.
//
// Pure, but for the clocks whose truth is looked at.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_GROUND_TRUTH_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_GROUND_TRUTH_H_

#include <cstdint>

#include "server/time/clock_probe.h"
#include "server/time/tsc_scaling.h"
#include "tests/clock_sim/sim_clocks.h"

namespace tsc_handoff::clock_sim {

// The TSC of a guest on one host, from the instant at which the host's read `host_tsc_ticks`. As if
// the host's never wrapped: at a wrap the hardware makes a scaled guest's jump.
class GuestTruth {
 public:
  using int128 = __int128;

  GuestTruth(const SimClocks& clocks, const time::TscScaling& scaling, uint64_t host_tsc_ticks);

  // Guest ticks since that instant.
  int128 At(int64_t when_ps) const;
  int64_t since_ps() const { return since_ps_; }
  bool WrapsUntil(int64_t when_ps) const;

 private:
  int128 Scale(int128 ticks) const;

  const SimClocks& clocks_;
  const time::TscScaling scaling_;
  const uint64_t host_tsc_ticks_;
  const int128 since_tsc_;  // the same, not wrapped
  const int64_t since_ps_;
};

// By how much the peer's TSC was outside of what `probe` says, in ns of its nominal time; 0:
// within.
int64_t ProbeWrongNs(const time::ClockProbe& probe, const SimClocks& local, const SimClocks& peer);

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_GROUND_TRUTH_H_
