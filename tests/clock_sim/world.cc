#include "tests/clock_sim/world.h"

#include <algorithm>
#include <utility>

namespace tsc_handoff::clock_sim {

void World::At(int64_t when_ps, Event event) {
  due_.push_back({when_ps, number_++, std::move(event)});
  std::push_heap(due_.begin(), due_.end());
  next_ps_ = due_.front().when_ps;
}

void World::RunUntil(int64_t until_ps) {
  while (!due_.empty() && due_.front().when_ps <= until_ps) {
    std::pop_heap(due_.begin(), due_.end());
    const Due due = std::move(due_.back());
    due_.pop_back();
    next_ps_ = due_.empty() ? std::numeric_limits<int64_t>::max() : due_.front().when_ps;
    now_ps_ = std::max(now_ps_, due.when_ps);
    due.event();
  }
}

}  // namespace tsc_handoff::clock_sim
