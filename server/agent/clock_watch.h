// ClockWatch: looks at the host's clock a few times a second, logs when its status changes, and
// says when it begins or ceases to be trusted.
//
// Threading: one thread of its own, which calls `on_trust`.
#ifndef TSC_HANDOFF_SERVER_AGENT_CLOCK_WATCH_H_
#define TSC_HANDOFF_SERVER_AGENT_CLOCK_WATCH_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "server/handoff/timekeeper.h"

namespace tsc_handoff::agent {

class ClockWatch {
 public:
  // Calls on_trust(trusted) before it returns, and then at each change. `timekeeper` outlives this.
  ClockWatch(handoff::Timekeeper& timekeeper, std::function<void(bool)> on_trust);
  ~ClockWatch();
  ClockWatch(const ClockWatch&) = delete;
  ClockWatch& operator=(const ClockWatch&) = delete;

 private:
  void Look();
  void Watch();

  handoff::Timekeeper& timekeeper_;
  const std::function<void(bool)> on_trust_;
  std::optional<clock::ClockQuality> last_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_CLOCK_WATCH_H_
