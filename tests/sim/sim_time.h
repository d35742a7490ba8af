// SimTime: the true time of a simulated world, which its hosts' clocks approximate. It stands still
// until a test advances it, so that a test knows every reading to the tick; or, for a
// demonstration, it follows CLOCK_MONOTONIC.
//
// Threading: safe from any thread.
#ifndef TSC_HANDOFF_TESTS_SIM_SIM_TIME_H_
#define TSC_HANDOFF_TESTS_SIM_SIM_TIME_H_

#include <atomic>
#include <cstdint>

namespace tsc_handoff::sim {

class SimTime {
 public:
  enum class Mode {
    kManual,   // only Advance() moves it
    kLive,     // follows CLOCK_MONOTONIC; Advance() adds to it
    kMachine,  // is CLOCK_MONOTONIC, so that several processes agree; nobody may advance it
  };

  explicit SimTime(Mode mode = Mode::kManual);

  // True time since this object was made; with kMachine, since the machine booted.
  int64_t NowNs() const;

  // REQUIRES: ns >= 0, because true time does not go back.
  void Advance(int64_t ns) { advanced_ns_.fetch_add(ns); }

  // Lets `ns` pass: at once, or, where time is live, by waiting, since other processes' time does
  // not jump along.
  void Sleep(int64_t ns);

 private:
  const bool live_;
  const int64_t started_ns_;
  std::atomic<int64_t> advanced_ns_{0};
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_SIM_TIME_H_
