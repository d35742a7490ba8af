// RateLimiter: how many requests an identity may send, by a bucket of tokens each: as many as a
// second's at once, and then so many a second.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_AUTH_RATE_LIMITER_H_
#define TSC_HANDOFF_SERVER_AUTH_RATE_LIMITER_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace tsc_handoff::auth {

class RateLimiter {
 public:
  // Identities that are remembered; of more, the one that was silent for longest is forgotten.
  static constexpr size_t kMaxIdentities = 1024;

  // `per_second` is at least 1.
  explicit RateLimiter(uint32_t per_second) : per_second_(per_second) {}

  void set_per_second(uint32_t per_second);
  uint32_t per_second() const;

  // 0: the request may pass. Otherwise how long, in ns, until the next may. `now_ns` is monotonic.
  int64_t Take(const std::string& who, int64_t now_ns);

 private:
  struct Bucket {
    double tokens = 0;
    int64_t filled_ns = 0;
  };

  void MakeRoomLocked();

  mutable std::mutex mutex_;
  double per_second_;                                // guarded by mutex_
  std::unordered_map<std::string, Bucket> buckets_;  // guarded by mutex_
};

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_RATE_LIMITER_H_
