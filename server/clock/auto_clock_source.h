// AutoClockSource: chronyd where there is one, the kernel otherwise.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_AUTO_CLOCK_SOURCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_AUTO_CLOCK_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "server/clock/clock_source.h"

namespace tsc_handoff::clock {

class AutoClockSource final : public ClockSource {
 public:
  // chronyd's silence is reported as such for `sticky_ns` after its last answer; only then the
  // kernel speaks, so that a chronyd that stops is noticed and not papered over.
  AutoClockSource(std::unique_ptr<ClockSource> chrony, std::unique_ptr<ClockSource> kernel,
                  int64_t sticky_ns);

  SourceReport Ask(int64_t monotonic_ns) override;

 private:
  const std::unique_ptr<ClockSource> chrony_;
  const std::unique_ptr<ClockSource> kernel_;
  const int64_t sticky_ns_;
  std::optional<int64_t> chrony_answered_ns_;  // CLOCK_MONOTONIC
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_AUTO_CLOCK_SOURCE_H_
