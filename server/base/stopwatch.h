// Stopwatch: how long something took, by CLOCK_MONOTONIC, for metrics. Nothing is decided by it.
//
// Threading: a plain value.
#ifndef TSC_HANDOFF_SERVER_BASE_STOPWATCH_H_
#define TSC_HANDOFF_SERVER_BASE_STOPWATCH_H_

#include <chrono>
#include <cstdint>

namespace tsc_handoff {

class Stopwatch {
 public:
  Stopwatch() : start_(std::chrono::steady_clock::now()) {}

  int64_t elapsed_ns() const {
    const auto passed = std::chrono::steady_clock::now() - start_;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(passed).count();
  }

 private:
  const std::chrono::steady_clock::time_point start_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_STOPWATCH_H_
