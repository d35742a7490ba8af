// Random: what the adversary draws from. The same seed gives the same numbers everywhere: no
// distribution of the standard library, no floating point.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_RANDOM_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_RANDOM_H_

#include <cstdint>
#include <initializer_list>

namespace tsc_handoff::clock_sim {

class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t Bits();
  // A generator of its own, so that one part's draws do not move another's.
  Random Fork();

  // low to high, both included. REQUIRES: low <= high.
  int64_t Between(int64_t low, int64_t high);
  // The same, with every octave alike likely: 1 us as often as 1 s. REQUIRES: 1 <= low <= high.
  int64_t OctaveBetween(int64_t low, int64_t high);
  // Within +-limit, and every other time at one of its ends: where a bound is off by one, it shows.
  int64_t WithinOftenAt(int64_t limit);
  int64_t EitherSign(int64_t magnitude);
  bool Percent(int percent);
  bool PerMille(int per_mille);

  template <typename T>
  T Pick(std::initializer_list<T> choices) {
    return choices.begin()[Below(choices.size())];
  }

 private:
  uint64_t Below(uint64_t limit);

  uint64_t state_;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_RANDOM_H_
