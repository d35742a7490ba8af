#include "server/clock/auto_clock_source.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {

AutoClockSource::AutoClockSource(std::unique_ptr<ClockSource> chrony,
                                 std::unique_ptr<ClockSource> kernel, int64_t sticky_ns)
    : chrony_(std::move(chrony)), kernel_(std::move(kernel)), sticky_ns_(sticky_ns) {}

SourceReport AutoClockSource::Ask(int64_t monotonic_ns) {
  // Both each time: the kernel's source has to see its daemon's updates to know their age. It comes
  // first, because it keeps nobody waiting.
  SourceReport kernel = kernel_->Ask(monotonic_ns);
  SourceReport chrony = chrony_->Ask(monotonic_ns);
  if (chrony.word != SourceReport::Word::kNoAnswer) chrony_answered_ns_ = monotonic_ns;
  const bool sticks =
      chrony_answered_ns_.has_value() && monotonic_ns - *chrony_answered_ns_ <= sticky_ns_;
  if (sticks) return chrony;
  // Where neither helps, the operator may have meant either.
  if (!kernel.problem.empty()) absl::StrAppend(&kernel.problem, " (", chrony.problem, ")");
  return kernel;
}

}  // namespace tsc_handoff::clock
