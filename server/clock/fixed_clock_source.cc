#include "server/clock/fixed_clock_source.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {

FixedClockSource::FixedClockSource(int64_t error_bound_ns, Adjtimex adjtimex)
    : error_bound_ns_(error_bound_ns), adjtimex_(std::move(adjtimex)) {}

SourceReport FixedClockSource::Ask(int64_t /*monotonic_ns*/) {
  SourceReport report;
  report.source = "fixed";
  const KernelTai kernel = ReadKernelTai(adjtimex_);
  report.tai_offset_s = kernel.tai_offset_s;
  report.leap_second = kernel.leap_second;
  if (error_bound_ns_ <= 0) {
    report.problem = absl::StrCat("the fixed bound of ", error_bound_ns_,
                                  " ns is no bound; correct it (--clock fixed:DURATION, above 0)");
    return report;
  }
  report.word = SourceReport::Word::kSynchronised;
  report.error_bound_ns = error_bound_ns_;
  return report;
}

}  // namespace tsc_handoff::clock
