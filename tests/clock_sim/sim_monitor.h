// SimMonitor: what ClockMonitor is to the agent, without its thread. It polls when its time has
// come, and after a step as soon as it is told: at once, or some time later, when the thread that
// waits for it gets to run.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_MONITOR_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_MONITOR_H_

#include <cstdint>

#include "server/clock/clock_quality.h"
#include "server/clock/clock_source.h"
#include "server/clock/clock_tracker.h"
#include "server/clock/host_clock.h"
#include "tests/clock_sim/random.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

struct SimMonitorOptions {
  clock::TrackerOptions tracker;
  int64_t poll_interval_ps = 0;
  int64_t longest_answer_ps = 0;  // of the source
  int late_percent = 0;           // of polls and of notices of a step that come late, by up to ...
  int64_t latest_ps = 0;
};

class SimMonitor final : public clock::ClockView {
 public:
  SimMonitor(World& world, clock::HostClock& clocks, clock::ClockSource& source,
             const SimMonitorOptions& options, Random random)
      : world_(world),
        clocks_(clocks),
        source_(source),
        options_(options),
        random_(random),
        tracker_(options.tracker) {}

  // The first poll; returns when it is done.
  void Start();

  // CLOCK_REALTIME was stepped: what the kernel tells who waits for it.
  void NoteStep();

  clock::ClockSnapshot Snapshot() override { return snapshot_; }

  int64_t polls() const { return polls_; }
  int64_t distrusts() const { return distrusts_; }  // polls that ended a trust

 private:
  void PollAt(int64_t when_ps);
  void Ask();
  void Answer(const clock::ClockInstant& asked);
  void Take(const clock::SourceReport& report, const clock::ClockInstant& asked);
  int64_t LatePs();

  World& world_;
  clock::HostClock& clocks_;
  clock::ClockSource& source_;
  const SimMonitorOptions options_;
  Random random_;
  clock::ClockTracker tracker_;
  clock::ClockSnapshot snapshot_;
  uint64_t planned_ = 0;  // the poll that is awaited; one that was planned earlier is none
  bool polling_ = false;
  bool again_ = false;  // a step was noted during a poll
  int64_t polls_ = 0;
  int64_t distrusts_ = 0;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_MONITOR_H_
