// ServiceManager: tells systemd how the agent is (sd_notify(3), a unit of Type=notify).
//
// READY=1 says that the agent serves, STOPPING=1 that it is on its way out, and WATCHDOG=1, again
// and again, that it is alive. The last is sent only while the agent really answers: each time the
// agent is asked first, by whatever `Probe` does, so that an agent whose threads hang is restarted
// though its process still runs. Without systemd (no NOTIFY_SOCKET) nothing is sent; without
// WatchdogSec= nobody is asked.
//
// The watch goes on while the agent stops: systemd goes on counting, and a drain may take longer
// than WatchdogSec. So this object is destroyed last.
//
// Threading: Ready and Stopping may be called from any thread. Probe and Notify are called from a
// thread of this class, Notify also from the callers of Ready and Stopping.
#ifndef TSC_HANDOFF_SERVER_AGENT_SERVICE_MANAGER_H_
#define TSC_HANDOFF_SERVER_AGENT_SERVICE_MANAGER_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"

namespace tsc_handoff::agent {

class ServiceManager {
 public:
  // Hands lines of NAME=VALUE to the service manager.
  using Notify = std::function<void(const std::string& state)>;
  // Whether the agent answers. Returns within `limit`; a false is logged by its caller only.
  using Probe = std::function<bool(absl::Duration limit)>;

  // `watchdog` is the time after which systemd restarts an agent that says nothing; zero for never.
  ServiceManager(absl::Duration watchdog, Notify notify, Probe probe);
  // What systemd put into the environment of this process.
  static std::unique_ptr<ServiceManager> FromEnvironment(Probe probe);

  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;
  ~ServiceManager();

  // Once, when the agent serves. `status` is shown by `systemctl status`. The watch begins.
  void Ready(const std::string& status);
  // Once, when the agent begins to stop.
  void Stopping(const std::string& status);

 private:
  void Watch();

  const absl::Duration watchdog_;
  const Notify notify_;
  const Probe probe_;
  std::mutex mutex_;
  std::condition_variable ended_changed_;
  bool ended_ = false;  // guarded by mutex_
  std::thread watch_;   // started by Ready
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_SERVICE_MANAGER_H_
