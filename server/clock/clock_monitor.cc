#include "server/clock/clock_monitor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <utility>

#include "server/clock/reference.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// 2255; the kernel counts ns in 63 bits.
constexpr time_t kLastSecond = 9'000'000'000;

// Arms the timer for a day that never comes: what it is for is being cancelled by a step.
void AwaitStep(int timer) {
  itimerspec never = {};
  never.it_value.tv_sec = kLastSecond;
  timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr);
}

}  // namespace

ClockMonitor::ClockMonitor(const MonitorOptions& options, std::unique_ptr<ClockSource> source,
                           std::unique_ptr<HostClock> host_clock)
    : options_(options),
      source_(std::move(source)),
      host_clock_(std::move(host_clock)),
      tracker_(options.tracker),
      stop_(eventfd(0, EFD_CLOEXEC)),
      steps_(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK)) {
  AwaitStep(steps_.get());
  Poll();
  thread_ = std::thread([this] { Watch(); });
}

ClockMonitor::~ClockMonitor() {
  const uint64_t one = 1;
  // Cannot fail: the counter is 0.
  (void)!write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

ClockSnapshot ClockMonitor::Snapshot() {
  std::lock_guard<std::mutex> lock(mutex_);
  return snapshot_;
}

void ClockMonitor::Poll() {
  const ClockInstant asked = ReadInstant(*host_clock_);
  const SourceReport report = source_->Ask(asked.monotonic_ns);
  tracker_.Take(report, asked, ReadInstant(*host_clock_));
  std::lock_guard<std::mutex> lock(mutex_);
  snapshot_ = tracker_.snapshot();
}

void ClockMonitor::Watch() {
  const int timeout_ms = static_cast<int>(options_.poll_interval_ns / kNsPerMs);
  while (true) {
    pollfd watched[] = {{stop_.get(), POLLIN, 0}, {steps_.get(), POLLIN, 0}};
    const int ready = poll(watched, 2, timeout_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (watched[0].revents != 0) return;
    if (watched[1].revents != 0) {
      uint64_t expirations = 0;
      (void)!read(steps_.get(), &expirations, sizeof(expirations));  // ECANCELED: a step
      AwaitStep(steps_.get());
    }
    Poll();
  }
}

}  // namespace tsc_handoff::clock
