// What the agent's operator allows.
//
// Threading: Limits are plain values; LiveLimits is thread-safe.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_LIMITS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_LIMITS_H_

#include <cstdint>
#include <mutex>

namespace tsc_handoff::handoff {

struct Limits {
  int64_t max_error_ns = 1'000'000;
  int64_t max_elapsed_ns = 300'000'000'000;
  // How long an apply waits, at the most, until it is certain that time has passed.
  int64_t max_commit_wait_ns = 100'000'000;
  uint32_t rate_uncertainty_ppm = 50;
  bool permit_untrusted_clock = false;  // a request may set allow_untrusted_clock
  bool permit_higher_error = false;     // a request may raise max_error_ns above the limit here
  bool require_probe = false;           // another host's state needs its source to be probed
};

// Limits that may change while the agent runs. Who works by them takes them once for each piece of
// work.
class LiveLimits {
 public:
  LiveLimits(const Limits& limits) : limits_(limits) {}  // NOLINT(google-explicit-constructor)

  Limits Get() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return limits_;
  }
  void Set(const Limits& limits) {
    const std::lock_guard<std::mutex> lock(mutex_);
    limits_ = limits;
  }

 private:
  mutable std::mutex mutex_;
  Limits limits_;  // guarded by mutex_
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_LIMITS_H_
