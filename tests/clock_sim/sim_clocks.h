// SimClocks: the clocks of a simulated host, made of true time.
//
//     TSC               start + true time * its true frequency, which is not quite what is believed
//     CLOCK_REALTIME    start + slewed time + steps + leap seconds
//     CLOCK_MONOTONIC   uptime + slewed time
//
// Each reading takes time, now and then much more than usual, and traps can be set between any two
// of them.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_CLOCKS_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_CLOCKS_H_

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "server/clock/host_clock.h"
#include "tests/clock_sim/random.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

struct SimClocksOptions {
  uint64_t tsc_start_ticks = 0;
  uint32_t tsc_khz = 2'600'000;                           // what is believed
  int64_t tsc_error_ppb = 0;                              // by which the TSC is really faster
  int64_t realtime_start_ns = 1'700'000'000'000'000'000;  // of a clock that is right
  int64_t error_at_start_ps = 0;                          // CLOCK_REALTIME minus true time
  int64_t uptime_ns = 86'400'000'000'000;
  int64_t read_ps = 20'000;  // a reading takes as much to twice that
  int stall_per_mille = 0;   // of readings that take longer, up to longest_stall_ps
  int64_t longest_stall_ps = 0;
};

class SimClocks final : public clock::HostClock {
 public:
  using Trap = std::function<void()>;
  using int128 = __int128;

  SimClocks(World& world, const SimClocksOptions& options, Random random);

  uint64_t ReadTsc() override;
  int64_t ReadRealtimeNs() override;
  int64_t ReadMonotonicNs() override;
  // Wakes up a little late.
  void SleepNs(int64_t ns) override;

  // The truth; takes no time.
  // The TSC, as if it had more than 64 bits.
  int128 TrueTscAt(int64_t when_ps) const;
  int128 TrueTsc() const { return TrueTscAt(world_.now_ps()); }
  // The true value behind a reading of the last century.
  int128 Unwrap(uint64_t tsc_ticks) const;
  // The first instant at which the TSC has that true value.
  int64_t WhenTscWas(int128 true_tsc) const;
  int64_t realtime_ns() const;
  int64_t monotonic_ns() const;
  // CLOCK_REALTIME against true time. Leap seconds that the clock has gone through do not count:
  // this is the error of CLOCK_REALTIME + TAI offset.
  int64_t ErrorPs() const;

  // What a discipline, an operator and the kernel do to the clocks.
  void SetRatePpb(int64_t rate_ppb);  // of both CLOCK_REALTIME and CLOCK_MONOTONIC
  void StepRealtime(int64_t ps) { stepped_ps_ += ps; }
  void GoThroughLeapSecond(int seconds) { leap_s_ += seconds; }

  // `trap` is sprung in the nth reading from now (1: the next), before the value is taken.
  void SetTrap(uint64_t nth, Trap trap);
  // Called at each reading of CLOCK_REALTIME with what the reader will get.
  void WatchRealtime(Trap watch) { watch_realtime_ = std::move(watch); }

 private:
  void Read();
  int64_t SlewedPs() const;

  World& world_;
  const SimClocksOptions options_;
  Random random_;
  const int128 ticks_per_ps_;  // with kTickBits of fraction

  int64_t slewed_base_ps_ = 0;  // slewed time at base_ps_
  int64_t base_ps_ = 0;
  int64_t rate_ = 0;  // with kRateBits of fraction
  int64_t stepped_ps_;
  int64_t leap_s_ = 0;

  uint64_t reads_ = 0;
  std::vector<std::pair<uint64_t, Trap>> traps_;  // by the number of the reading
  Trap watch_realtime_;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_CLOCKS_H_
