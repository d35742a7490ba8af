// SleepLog: a host's clocks as one caller uses them, and how long he chose to sleep by them.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_SLEEP_LOG_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_SLEEP_LOG_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "server/clock/host_clock.h"

namespace tsc_handoff::clock_sim {

class SleepLog final : public clock::HostClock {
 public:
  struct Sleep {
    int64_t asked_ns;
    // The last but one reading of CLOCK_MONOTONIC before: the caller decided by it, and then noted
    // when he began.
    int64_t decided_at_ns;
  };

  explicit SleepLog(clock::HostClock& clocks) : clocks_(clocks) {}

  uint64_t ReadTsc() override { return clocks_.ReadTsc(); }
  int64_t ReadRealtimeNs() override { return clocks_.ReadRealtimeNs(); }
  int64_t ReadMonotonicNs() override {
    before_ns_ = latest_ns_;
    latest_ns_ = clocks_.ReadMonotonicNs();
    if (!began_ns_.has_value()) began_ns_ = latest_ns_;
    return latest_ns_;
  }
  void SleepNs(int64_t ns) override {
    sleeps_.push_back({ns, before_ns_});
    clocks_.SleepNs(ns);
  }

  const std::vector<Sleep>& sleeps() const { return sleeps_; }

  // From now on the first reading of CLOCK_MONOTONIC counts as the caller's beginning.
  void Begin() { began_ns_.reset(); }
  int64_t began_ns() const { return began_ns_.value_or(0); }

 private:
  clock::HostClock& clocks_;
  int64_t before_ns_ = 0;
  int64_t latest_ns_ = 0;
  std::optional<int64_t> began_ns_;
  std::vector<Sleep> sleeps_;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_SLEEP_LOG_H_
