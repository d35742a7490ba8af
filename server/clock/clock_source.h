// ClockSource: how far the host's wall clock may be from true time, and who says so. Unknown is the
// safe answer: a source that cannot be read is not trusted.
//
// Threading: implementations may be called from any thread.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CLOCK_SOURCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_CLOCK_SOURCE_H_

#include <sys/timex.h>

#include <cstdint>
#include <functional>
#include <string>

namespace tsc_handoff::clock {

struct ClockQuality {
  bool trusted = false;
  int64_t error_bound_ns = 0;    // meaningful when trusted
  int32_t tai_offset_s = 0;      // CLOCK_TAI - CLOCK_REALTIME, 0 not known
  std::string source;            // "kernel" or "fixed"
  std::string untrusted_reason;  // empty when trusted
};

class ClockSource {
 public:
  virtual ~ClockSource() = default;
  virtual ClockQuality Read() = 0;
};

// adjtimex(2): the bound is the kernel's maxerror; not trusted while STA_UNSYNC is set, while a
// leap second is being inserted or deleted, or when the values make no sense. Blind to a clock
// daemon that died: maxerror grows by 500 us a second, and STA_UNSYNC comes when it has reached 16
// s; a bound limit catches that.
class KernelClockSource final : public ClockSource {
 public:
  // Calls adjtimex(2) with modes = 0; returns its result, or -errno. Injected for tests.
  using Adjtimex = std::function<int(struct timex*)>;
  KernelClockSource();
  explicit KernelClockSource(Adjtimex adjtimex);
  ClockQuality Read() override;

 private:
  const Adjtimex adjtimex_;
};

// A bound that the operator vouches for, for hosts whose clock is disciplined and watched by means
// that the agent does not see, or that are the reference themselves. tai_offset_s comes from the
// kernel where it knows.
class FixedClockSource final : public ClockSource {
 public:
  explicit FixedClockSource(int64_t error_bound_ns, KernelClockSource::Adjtimex adjtimex = nullptr);
  ClockQuality Read() override;

 private:
  const int64_t error_bound_ns_;
  const KernelClockSource::Adjtimex adjtimex_;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CLOCK_SOURCE_H_
