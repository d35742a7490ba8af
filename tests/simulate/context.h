// Context: what all parts of a simulated world share: true time, chance, faults, the trace, the
// count of what happened, and the first thing that was wrong.
//
// Threading: one thread; the same seed gives the same world.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_CONTEXT_H_
#define TSC_HANDOFF_TESTS_SIMULATE_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/clock_sim/random.h"
#include "tests/clock_sim/units.h"
#include "tests/clock_sim/world.h"
#include "tests/simulate/faults.h"
#include "tests/simulate/tally.h"

namespace tsc_handoff::simulate {

using clock_sim::kPsPerMs;
using clock_sim::kPsPerSecond;
using clock_sim::kPsPerUs;
using clock_sim::Random;
using clock_sim::World;

class Context {
 public:
  // `trace` may be null.
  Context(uint64_t seed, std::ostream* trace, Tally& tally)
      : random_(seed), faults_(DrawFaults(random_)), trace_(trace), tally_(tally) {}

  World& world() { return world_; }
  Random& random() { return random_; }
  const Faults& faults() const { return faults_; }
  Tally& tally() { return tally_; }
  void Count(Fact fact) { tally_.Add(fact); }

  // From here on nothing fails.
  void CalmDown() { faults_ = Faults(); }
  // Whether a fault of so many per mille happens now.
  bool Strikes(int per_mille) { return per_mille > 0 && random_.PerMille(per_mille); }

  // After each event, `check` is called.
  void set_check(std::function<void()> check) { check_ = std::move(check); }
  void After(int64_t ps, std::function<void()> event) {
    world_.After(ps, [this, event = std::move(event)] {
      if (!wrong_.empty()) return;
      event();
      check_();
    });
  }

  // A line of the trace, made of the parts.
  template <typename... Parts>
  void Note(const Parts&... parts) {
    if (trace_ != nullptr) Print(absl::StrCat(parts...));
  }
  bool tracing() const { return trace_ != nullptr; }

  // Something that must never be. The first is kept, and the world ends.
  void Violate(const std::string& what) {
    if (!wrong_.empty()) return;
    wrong_ = what;
    Note("VIOLATION: ", what);
  }
  const std::string& wrong() const { return wrong_; }

 private:
  void Print(const std::string& line);

  World world_;
  Random random_;
  Faults faults_;
  std::ostream* const trace_;
  Tally& tally_;
  std::function<void()> check_ = [] {};
  std::string wrong_;
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_CONTEXT_H_
