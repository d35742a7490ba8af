#include "server/base/log_limiter.h"

#include <algorithm>
#include <utility>

namespace tsc_handoff {

std::optional<uint64_t> LogLimiter::Pass(absl::string_view kind, int64_t now_ns) {
  const std::string key(kind);
  const auto [found, fresh] = buckets_.try_emplace(key);
  Bucket& bucket = found->second;
  const double seconds = static_cast<double>(std::max<int64_t>(now_ns - bucket.filled_ns, 0)) / 1e9;
  bucket.tokens = fresh ? burst_ : std::min(burst_, bucket.tokens + seconds * per_second_);
  bucket.filled_ns = now_ns;
  if (bucket.tokens < 1) {
    ++bucket.dropped;
    return std::nullopt;
  }
  bucket.tokens -= 1;
  return std::exchange(bucket.dropped, 0);
}

}  // namespace tsc_handoff
