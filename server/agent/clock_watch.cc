#include "server/agent/clock_watch.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

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
    spdlog::info("clock: {} by {}, trusted within {} ns", clock::StatusName(quality.status),
                 quality.source, quality.error_bound_ns);
  } else {
    spdlog::warn("clock: {}, not trusted, no handoffs by it: {}", clock::StatusName(quality.status),
                 quality.untrusted_reason);
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
