// Repeating a call that did not reach its agent: exponential backoff with jitter inside one overall
// deadline.
//
// Threading: pure but for the injected time source, which must be usable from every thread that
// calls.
#ifndef TSC_HANDOFF_CLIENT_LIB_RETRY_H_
#define TSC_HANDOFF_CLIENT_LIB_RETRY_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tsc_handoff::client {

// The time that calls and retries live by. Steady time only: a step of the wall clock moves no
// deadline.
struct TimeSource {
  // Time since some fixed instant; never goes back.
  std::function<absl::Duration()> steady_now;
  // Returns true after that long, false as soon as the caller wants no more attempts.
  std::function<bool(absl::Duration)> sleep;
  // Uniform in [0, 1).
  std::function<double()> random;
};

// The machine's steady clock, a real sleep that always runs to its end, real randomness.
TimeSource SystemTime();

struct RetryPolicy {
  // Attempts in all, the first included; 1 means no retry.
  int max_attempts = 3;
  // Before the second attempt; doubles for each further one.
  absl::Duration initial_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(1);
  // A backoff is multiplied by a random factor in [1 - jitter, 1], so that clients that failed
  // together do not return together.
  double jitter = 0.5;
};

// Calls `attempt` with the time left of `timeout` until it succeeds, fails with what `retryable`
// refuses, or attempts, time or patience are used up; returns the last attempt's status.
absl::Status CallWithRetry(const RetryPolicy& policy, const TimeSource& time,
                           absl::Duration timeout,
                           const std::function<bool(const absl::Status&)>& retryable,
                           const std::function<absl::Status(absl::Duration)>& attempt);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_RETRY_H_
