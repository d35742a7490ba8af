#include "client/lib/retry.h"

#include <algorithm>
#include <chrono>

#include "absl/random/random.h"
#include "absl/time/clock.h"

namespace tsc_handoff::client {

TimeSource SystemTime() {
  return {
      .steady_now =
          [] { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); },
      .sleep =
          [](absl::Duration duration) {
            absl::SleepFor(duration);
            return true;
          },
      .random =
          [] {
            thread_local absl::BitGen bits;
            return absl::Uniform(bits, 0.0, 1.0);
          },
  };
}

absl::Status CallWithRetry(const RetryPolicy& policy, const TimeSource& time,
                           absl::Duration timeout,
                           const std::function<bool(const absl::Status&)>& retryable,
                           const std::function<absl::Status(absl::Duration)>& attempt) {
  const absl::Duration end = time.steady_now() + timeout;
  absl::Duration backoff = policy.initial_backoff;
  absl::Duration left = timeout;
  for (int number = 1;; ++number) {
    const absl::Status status = attempt(left);
    if (status.ok() || number >= policy.max_attempts || !retryable(status)) return status;
    const absl::Duration pause = backoff * (1.0 - policy.jitter * time.random());
    // Time that would run out while waiting gives no attempt: the caller learns of the failure now.
    if (time.steady_now() + pause >= end) return status;
    if (!time.sleep(pause)) return status;
    left = end - time.steady_now();
    if (left <= absl::ZeroDuration()) return status;
    backoff = std::min(backoff * 2, policy.max_backoff);
  }
}

}  // namespace tsc_handoff::client
