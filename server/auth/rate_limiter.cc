#include "server/auth/rate_limiter.h"

#include <algorithm>
#include <cmath>

namespace tsc_handoff::auth {
namespace {

constexpr double kNsPerSecond = 1e9;

}  // namespace

void RateLimiter::set_per_second(uint32_t per_second) {
  const std::lock_guard<std::mutex> lock(mutex_);
  per_second_ = per_second;
}

uint32_t RateLimiter::per_second() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<uint32_t>(per_second_);
}

int64_t RateLimiter::Take(const std::string& who, int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto found = buckets_.find(who);
  if (found == buckets_.end()) {
    if (buckets_.size() >= kMaxIdentities) MakeRoomLocked();
    found = buckets_.emplace(who, Bucket{.tokens = per_second_, .filled_ns = now_ns}).first;
  }
  Bucket& bucket = found->second;
  const double elapsed_s = static_cast<double>(now_ns - bucket.filled_ns) / kNsPerSecond;
  bucket.tokens = std::min(per_second_, bucket.tokens + elapsed_s * per_second_);
  bucket.filled_ns = now_ns;
  if (bucket.tokens < 1)
    return static_cast<int64_t>(std::ceil((1 - bucket.tokens) / per_second_ * kNsPerSecond));
  bucket.tokens -= 1;
  return 0;
}

void RateLimiter::MakeRoomLocked() {
  buckets_.erase(std::min_element(
      buckets_.begin(), buckets_.end(),
      [](const auto& a, const auto& b) { return a.second.filled_ns < b.second.filled_ns; }));
}

}  // namespace tsc_handoff::auth
