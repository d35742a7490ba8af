// LeapSecond: how one host's kernel goes through a leap second: flags before, during and after it,
// the TAI offset, and the step of CLOCK_REALTIME, when that clock (not true time) reaches midnight
// and the next timer tick comes.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_LEAP_SECOND_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_LEAP_SECOND_H_

#include <sys/timex.h>

#include <cstdint>
#include <functional>
#include <utility>

#include "tests/clock_sim/sim_clocks.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

struct LeapSecondOptions {
  int inserted = 0;   // 1 inserted, -1 deleted, 0 there is none, or this host does not know
  int64_t at_ps = 0;  // true time of midnight
  int64_t cleared_after_ps = 0;  // by the daemon, after midnight
  bool tai_known = true;
};

class LeapSecond {
 public:
  // `stepped` is called when the kernel steps the clock for it.
  LeapSecond(World& world, SimClocks& clocks, const LeapSecondOptions& options,
             std::function<void()> stepped)
      : world_(world),
        clocks_(clocks),
        options_(options),
        stepped_(std::move(stepped)),
        tai_s_(options.tai_known ? kTaiOffsetS : 0) {}

  void Start();

  // Fills in what adjtimex(2) says of it, and returns the clock's state.
  int FillTimex(timex& values) const;

 private:
  static constexpr int kTaiOffsetS = 37;

  void Tick();
  int State() const;

  World& world_;
  SimClocks& clocks_;
  const LeapSecondOptions options_;
  const std::function<void()> stepped_;
  int tai_s_;
  int64_t done_ps_ = -1;  // when the kernel stepped; below 0: not yet
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_LEAP_SECOND_H_
