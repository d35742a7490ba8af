#include "server/agent/handoff_watch.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>
#include <vector>

namespace tsc_handoff::agent {
namespace {

constexpr std::chrono::seconds kInterval(1);
constexpr std::chrono::hours kCompactEvery(1);
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
    spdlog::warn(
        "undecided: handoff={} vm={} epoch={} side={} state={}: nobody has asked about it for {} "
        "s; the VM stays paused. Finish or undo it: tscctl resume or tscctl abort {}",
        record.ticket.handoff_id, record.vm_id, record.ticket.epoch, handoff::NameOf(record.side),
        handoff::NameOf(record.state), view.silent_ns / kNsPerSecond, record.ticket.handoff_id);
  }
  reported_ = std::move(now);
  on_undecided_(undecided.size());
}

void HandoffWatch::Compact() {
  const auto now = std::chrono::steady_clock::now();
  if (now < compact_at_) return;
  compact_at_ = now + kCompactEvery;
  const auto dropped = handoffs_.Compact(keep_ns_);
  if (!dropped.ok()) {
    spdlog::warn("the journal was not compacted: {}", std::string(dropped.status().message()));
  } else if (*dropped > 0) {
    spdlog::info("the journal dropped {} handoffs that ended long ago", *dropped);
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
