// World: true time, and what happens in it. Nothing passes time but Advance; whatever is due on the
// way happens at its time, also in the middle of another host's reading of its clocks.
//
// An event may itself pass time (a poll of the clock reads the clocks): whoever was advancing then
// goes on later, as a thread does that was preempted.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_WORLD_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_WORLD_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace tsc_handoff::clock_sim {

class World {
 public:
  using Event = std::function<void()>;

  // True time in ps since the world began: at most 100 days.
  int64_t now_ps() const { return now_ps_; }

  // REQUIRES: ps >= 0.
  void Advance(int64_t ps) {
    const int64_t until_ps = now_ps_ + ps;
    if (until_ps >= next_ps_) RunUntil(until_ps);
    if (now_ps_ < until_ps) now_ps_ = until_ps;
  }

  // Makes `event` happen at `when_ps`, or at the next advance when that has passed. Events of one
  // instant happen in the order in which they were given.
  void At(int64_t when_ps, Event event);
  void After(int64_t in_ps, Event event) { At(now_ps_ + in_ps, std::move(event)); }

 private:
  struct Due {
    int64_t when_ps;
    uint64_t number;
    Event event;
    // The heap's top is the earliest.
    bool operator<(const Due& other) const {
      return when_ps != other.when_ps ? when_ps > other.when_ps : number > other.number;
    }
  };

  void RunUntil(int64_t until_ps);

  int64_t now_ps_ = 0;
  int64_t next_ps_ = std::numeric_limits<int64_t>::max();
  uint64_t number_ = 0;
  std::vector<Due> due_;  // a heap
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_WORLD_H_
