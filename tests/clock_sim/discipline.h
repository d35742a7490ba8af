// Discipline: a clock daemon that steers a host's CLOCK_REALTIME, and what it knows of its error.
//
// At each update it learns how far off the clock is, to within its uncertainty E, and corrects that
// by slewing, or by a step where it is too much. What remains after the correction is an error
// within +-E, every other time at the limit; from then on the clock wanders off at a rate within
// what the daemon admits. So at any time
//
//     |error| <= what is still to be slewed + E + admitted wander * time since the update
//
// and that is what it claims. It lies where the options say so, or when somebody else has stepped
// the clock and it has not noticed yet.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_DISCIPLINE_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_DISCIPLINE_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "tests/clock_sim/random.h"
#include "tests/clock_sim/sim_clocks.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

struct DisciplineOptions {
  int64_t uncertainty_ps = 0;  // E
  bool restless = false;   // E is another one at each update, up to 8 times as much or as little
  int64_t wander_ppb = 0;  // that it admits
  int64_t slew_ppb = 500'000;
  int64_t step_above_ps = 0;  // larger corrections are steps; 0: always slewed
  bool steps_back = false;    // undoes at once what somebody else stepped
  int64_t interval_ps = 0;    // between updates, +-20 %
  int64_t first_update_ps = 0;
  // From when to when it has lost its sources, and makes no update.
  int64_t lost_from_ps = -1;
  int64_t lost_until_ps = -1;
  bool says_so = false;  // that it has lost them

  // Lies: where the truth is by its own reckoning, and by how much more the clock wanders.
  int64_t lie_ps = 0;
  int64_t hidden_wander_ppb = 0;
  // A second that its sources smear: from when to when it believes in time by how much more (or
  // less). In no time, when both instants are the same: a leap second that only its sources knew.
  int64_t smear_from_ps = 0;
  int64_t smear_until_ps = 0;
  int64_t smear_ps = 0;
};

class Discipline {
 public:
  Discipline(World& world, SimClocks& clocks, const DisciplineOptions& options, Random random,
             std::function<void()> stepped)
      : world_(world),
        clocks_(clocks),
        options_(options),
        random_(random),
        stepped_(std::move(stepped)) {}

  void Start();

  // An update out of turn; `by_step`: corrects by a step whatever it is.
  void Update(bool by_step);
  // Somebody else stepped the clock.
  void NoteForeignStep() { deceived_ = true; }

  // Whether it follows its sources by its own word.
  bool synchronised() const;
  // What it claims now, rounded up.
  int64_t ClaimNs() const;
  // The part of it that is still to be slewed.
  int64_t ToSlewNs() const;
  // What it claims, as of the latest update and with all that was to be slewed.
  int64_t ClaimAtUpdateNs() const;
  int64_t updated_ps() const { return updated_ps_; }
  // The latest update, by CLOCK_REALTIME after a step and before a slew.
  int64_t updated_realtime_ns() const { return updated_realtime_ns_; }
  int64_t updated_monotonic_ns() const { return updated_monotonic_ns_; }
  int64_t update_distance_ns() const { return update_distance_ns_; }
  int64_t updates() const { return updates_; }

  // Whether it has no reason to be wrong: no step since its update that was not its own.
  bool undeceived() const { return updates_ > 0 && !deceived_; }

 private:
  bool lost() const;
  int64_t SmearPs() const;
  int64_t SmearPpb() const;
  int64_t ToSlewPs() const;
  void SetRate();
  void BeginAtWork();
  void Schedule();
  void Slew(int64_t ps);

  World& world_;
  SimClocks& clocks_;
  const DisciplineOptions options_;
  Random random_;
  const std::function<void()> stepped_;

  int64_t updates_ = 0;
  int64_t updated_ps_ = 0;
  int64_t updated_realtime_ns_ = 0;
  int64_t updated_monotonic_ns_ = 0;
  int64_t update_distance_ns_ = 0;
  bool deceived_ = false;
  int64_t uncertainty_ps_ = 0;
  int64_t to_slew_ps_ = 0;  // at the update
  int64_t slew_ppb_ = 0;    // that goes on
  int64_t wander_ppb_ = 0;  // that the clock really has
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_DISCIPLINE_H_
