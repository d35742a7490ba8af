#include "server/agent/service_manager.h"

#include <systemd/sd-daemon.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"

namespace tsc_handoff::agent {
namespace {

// A third to ask, a third to wait: even an answer that comes at the last moment is told in time.
constexpr int kParts = 3;

// A line break would begin another assignment.
std::string OneLine(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

absl::Duration WatchdogFromEnvironment() {
  uint64_t usec = 0;
  const int enabled = sd_watchdog_enabled(/*unset_environment=*/0, &usec);
  if (enabled < 0)
    Log(LogLevel::kWarn, "no watchdog: WATCHDOG_USEC is wrong", {{"why", strerror(-enabled)}});
  return enabled > 0 ? absl::Microseconds(static_cast<int64_t>(usec)) : absl::ZeroDuration();
}

}  // namespace

ServiceManager::ServiceManager(absl::Duration watchdog, Notify notify, Probe probe)
    : watchdog_(watchdog), notify_(std::move(notify)), probe_(std::move(probe)) {}

std::unique_ptr<ServiceManager> ServiceManager::FromEnvironment(Probe probe) {
  return std::make_unique<ServiceManager>(
      WatchdogFromEnvironment(),
      [](const std::string& state) {
        const int sent = sd_notify(/*unset_environment=*/0, state.c_str());
        if (sent < 0)
          Log(LogLevel::kWarn, "cannot tell systemd", {{"what", state}, {"why", strerror(-sent)}});
      },
      std::move(probe));
}

ServiceManager::~ServiceManager() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  ended_changed_.notify_all();
  if (watch_.joinable()) watch_.join();
}

void ServiceManager::Ready(const std::string& status) {
  notify_(absl::StrCat("READY=1\nSTATUS=", OneLine(status)));
  if (watchdog_ > absl::ZeroDuration()) watch_ = std::thread([this] { Watch(); });
}

void ServiceManager::Stopping(const std::string& status) {
  notify_(absl::StrCat("STOPPING=1\nSTATUS=", OneLine(status)));
}

void ServiceManager::Watch() {
  const absl::Duration part = watchdog_ / kParts;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ended_) {
    lock.unlock();
    if (probe_(part)) {
      notify_("WATCHDOG=1");
    } else {
      Log(LogLevel::kError, "the agent does not answer itself",
          {{"within", absl::FormatDuration(part)}});
    }
    lock.lock();
    ended_changed_.wait_for(lock, absl::ToChronoNanoseconds(part), [this] { return ended_; });
  }
}

}  // namespace tsc_handoff::agent
