// LogLimiter: lets a burst of each kind of line through, and then a few a second.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_BASE_LOG_LIMITER_H_
#define TSC_HANDOFF_SERVER_BASE_LOG_LIMITER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tsc_handoff {

class LogLimiter {
 public:
  LogLimiter(double burst, double per_second) : burst_(burst), per_second_(per_second) {}

  // How many lines of this kind were dropped since the last one that was not; nullopt: this one is
  // dropped, too. `now_ns` is monotonic. Kinds are few and ours: they are kept.
  std::optional<uint64_t> Pass(absl::string_view kind, int64_t now_ns);

 private:
  struct Bucket {
    double tokens = 0;
    int64_t filled_ns = 0;
    uint64_t dropped = 0;
  };

  const double burst_;
  const double per_second_;
  std::map<std::string, Bucket, std::less<>> buckets_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_LOG_LIMITER_H_
