// ClockMonitor: asks the clock source four times a second, and at once when somebody steps the wall
// clock; keeps what a ClockTracker makes of it, for handoffs to use without asking anyone.
//
// Threading: thread-safe. One thread of its own; it may be inside the source while Snapshot is
// called.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CLOCK_MONITOR_H_
#define TSC_HANDOFF_SERVER_CLOCK_CLOCK_MONITOR_H_

#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "server/base/unique_fd.h"
#include "server/clock/clock_quality.h"
#include "server/clock/clock_source.h"
#include "server/clock/clock_tracker.h"
#include "server/clock/host_clock.h"

namespace tsc_handoff::clock {

struct MonitorOptions {
  TrackerOptions tracker;
  int64_t poll_interval_ns = 250'000'000;
};

class ClockMonitor final : public ClockView {
 public:
  // Asks `source` once before it returns, so that there is a first word. `source` may take up to
  // 300 ms for it.
  ClockMonitor(const MonitorOptions& options, std::unique_ptr<ClockSource> source,
               std::unique_ptr<HostClock> host_clock);
  ~ClockMonitor() override;
  ClockMonitor(const ClockMonitor&) = delete;
  ClockMonitor& operator=(const ClockMonitor&) = delete;

  ClockSnapshot Snapshot() override;

 private:
  void Watch();
  void Poll();

  const MonitorOptions options_;
  const std::unique_ptr<ClockSource> source_;
  const std::unique_ptr<HostClock> host_clock_;
  ClockTracker tracker_;  // of the thread's alone, once it runs
  UniqueFd stop_;         // an eventfd
  UniqueFd steps_;        // a timerfd that is readable when CLOCK_REALTIME was stepped

  std::mutex mutex_;
  ClockSnapshot snapshot_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CLOCK_MONITOR_H_
