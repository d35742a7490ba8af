#include "server/agent/handoff_watch.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "server/base/log.h"

namespace tsc_handoff::agent {
namespace {

constexpr std::chrono::seconds kInterval(1);
// More often where handoffs are kept for less.
constexpr std::chrono::nanoseconds kCompactEvery = std::chrono::hours(1);
constexpr int64_t kNsPerSecond = 1'000'000'000;

}  // namespace

HandoffWatch::HandoffWatch(handoff::HandoffController& handoffs, int64_t keep_ns,
                           std::function<void(size_t)> on_undecided)
    : handoffs_(handoffs), keep_ns_(keep_ns), on_undecided_(std::move(on_undecided)) {
  thread_ = std::thread([this] { Watch(); });
}

HandoffWatch::~HandoffWatch() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HandoffWatch::Look() {
  const std::vector<handoff::HandoffView> undecided = handoffs_.Sweep();
  std::set<std::string> now;
  for (const handoff::HandoffView& view : undecided) {
    const journal::HandoffRecord& record = *view.record;
    now.insert(record.ticket.handoff_id);
    if (reported_.count(record.ticket.handoff_id) > 0) continue;
    Log(LogLevel::kWarn,
        "undecided handoff: nobody has asked about it for long, and its VM stays paused; finish or "
        "undo it with tscctl resume or tscctl abort",
        {{"handoff", record.ticket.handoff_id},
         {"vm", record.vm_id},
         {"epoch", record.ticket.epoch},
         {"side", handoff::NameOf(record.side)},
         {"state", handoff::NameOf(record.state)},
         {"silent_s", view.silent_ns / kNsPerSecond}});
  }
  reported_ = std::move(now);
  on_undecided_(undecided.size());
}

void HandoffWatch::Compact() {
  const auto now = std::chrono::steady_clock::now();
  if (now < compact_at_) return;
  compact_at_ = now + std::min(kCompactEvery, std::chrono::nanoseconds(keep_ns_));
  const auto dropped = handoffs_.Compact(keep_ns_);
  if (!dropped.ok()) {
    Log(LogLevel::kWarn, "the journal was not compacted", {{"why", dropped.status().message()}});
  } else if (*dropped > 0) {
    Log(LogLevel::kInfo, "the journal dropped handoffs that ended long ago",
        {{"handoffs", *dropped}});
  }
}

void HandoffWatch::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    lock.unlock();
    Look();
    Compact();
    lock.lock();
  }
}

}  // namespace tsc_handoff::agent
