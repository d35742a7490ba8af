#include "server/agent/clock_watch.h"

#include <chrono>
#include <utility>

#include "server/base/log.h"

namespace tsc_handoff::agent {
namespace {

constexpr std::chrono::milliseconds kInterval(250);

}  // namespace

ClockWatch::ClockWatch(handoff::Timekeeper& timekeeper, std::function<void(bool)> on_trust)
    : timekeeper_(timekeeper), on_trust_(std::move(on_trust)) {
  Look();
  thread_ = std::thread([this] { Watch(); });
}

ClockWatch::~ClockWatch() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ClockWatch::Look() {
  const clock::ClockQuality quality = timekeeper_.Now().quality;
  if (last_.has_value() && last_->status == quality.status && last_->trusted == quality.trusted)
    return;
  if (quality.trusted) {
    Log(LogLevel::kInfo, "the clock is trusted",
        {{"status", clock::StatusName(quality.status)},
         {"source", quality.source},
         {"error_bound_ns", quality.error_bound_ns}});
  } else {
    Log(LogLevel::kWarn, "the clock is not trusted; there are no handoffs by it",
        {{"status", clock::StatusName(quality.status)}, {"reason", quality.untrusted_reason}});
  }
  if (!last_.has_value() || last_->trusted != quality.trusted) on_trust_(quality.trusted);
  last_ = quality;
}

void ClockWatch::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    lock.unlock();
    Look();
    lock.lock();
  }
}

}  // namespace tsc_handoff::agent
