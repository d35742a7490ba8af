#include "server/clock/auto_clock_source.h"

#include <utility>

namespace tsc_handoff::clock {

AutoClockSource::AutoClockSource(std::unique_ptr<ClockSource> chrony,
                                 std::unique_ptr<ClockSource> kernel, int64_t sticky_ns)
    : chrony_(std::move(chrony)), kernel_(std::move(kernel)), sticky_ns_(sticky_ns) {}

SourceReport AutoClockSource::Ask(int64_t monotonic_ns) {
  // Both each time: the kernel's source has to see its daemon's updates to know their age.
  SourceReport chrony = chrony_->Ask(monotonic_ns);
  SourceReport kernel = kernel_->Ask(monotonic_ns);
  if (chrony.word != SourceReport::Word::kNoAnswer) chrony_answered_ns_ = monotonic_ns;
  const bool sticks =
      chrony_answered_ns_.has_value() && monotonic_ns - *chrony_answered_ns_ <= sticky_ns_;
  return sticks ? chrony : kernel;
}

}  // namespace tsc_handoff::clock
