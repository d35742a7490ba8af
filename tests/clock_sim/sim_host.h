// SimHost: a host with its clocks, their discipline, and the part of the agent that deals in time.
// The clocks and the discipline are simulated; ClockTracker, Timekeeper and
// what stands between the figures of chronyd or the kernel and a report are the delivered ones.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_HOST_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_HOST_H_

#include <cstdint>
#include <memory>
#include <string>

#include "server/clock/clock_source.h"
#include "server/handoff/limits.h"
#include "server/handoff/peer_prober.h"
#include "server/handoff/timekeeper.h"
#include "server/host/host_facts.h"
#include "tests/clock_sim/discipline.h"
#include "tests/clock_sim/kernel_ntp.h"
#include "tests/clock_sim/leap_second.h"
#include "tests/clock_sim/random.h"
#include "tests/clock_sim/sim_clocks.h"
#include "tests/clock_sim/sim_monitor.h"
#include "tests/clock_sim/sleep_log.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

enum class SourceKind { kChrony, kKernel, kFixed, kAuto };

struct SimHostOptions {
  std::string boot_id;
  SimClocksOptions clocks;
  DisciplineOptions discipline;
  LeapSecondOptions leap_second;
  SimMonitorOptions monitor;
  SourceKind source = SourceKind::kChrony;
  int64_t fixed_bound_ns = 0;          // of kFixed
  int64_t sticky_ns = 10'000'000'000;  // of kAuto; see AutoClockSource
  bool tunes = true;                   // see KernelNtp
  int64_t silent_from_ps = -1;         // see ChronySource
  int64_t silent_until_ps = -1;
  bool can_scale = true;
  uint32_t frac_bits = 48;
  bool honest = true;  // its claims hold whenever nobody has stepped the clock
};

class SimHost {
 public:
  // `prober` and `limits` outlive this.
  SimHost(World& world, const SimHostOptions& options, handoff::PeerProber& prober,
          const handoff::Limits& limits, handoff::Timekeeper::ProbeObserver on_probe,
          Random random);

  // Starts the discipline and the monitor.
  void Start();

  // Somebody who is not the discipline steps CLOCK_REALTIME.
  void StepByForeigner(int64_t ps);
  void StepByDiscipline() { discipline_.Update(/*by_step=*/true); }

  SimClocks& clocks() { return clocks_; }
  SimMonitor& monitor() { return monitor_; }
  SleepLog& sleep_log() { return sleep_log_; }
  handoff::Timekeeper& timekeeper() { return timekeeper_; }
  const host::HostFacts& facts() const { return facts_; }

  // The first reading at which an honest host's claim did not hold: a fault of the simulation.
  // Empty when there was none.
  const std::string& broken_claim() const { return broken_claim_; }
  int64_t steps() const { return steps_; }  // of CLOCK_REALTIME

 private:
  void NoteStep();
  void CheckClaim();
  std::unique_ptr<clock::ClockSource> MakeSource();

  World& world_;
  const SimHostOptions options_;
  host::HostFacts facts_;
  SimClocks clocks_;
  Discipline discipline_;
  LeapSecond leap_second_;
  KernelNtp kernel_;
  std::unique_ptr<clock::ClockSource> source_;
  SimMonitor monitor_;
  SleepLog sleep_log_;
  handoff::Timekeeper timekeeper_;
  std::string broken_claim_;
  int64_t steps_ = 0;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_HOST_H_
