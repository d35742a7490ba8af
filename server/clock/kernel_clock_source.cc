#include "server/clock/kernel_clock_source.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr int64_t kNsPerUs = 1000;
constexpr int64_t kNsPerSecond = 1'000'000'000;
// The kernel's NTP_PHASE_LIMIT: it never lets maxerror grow beyond.
constexpr int64_t kMaxErrorLimitUs = 16'000'000;
// timex.freq is in ppm with 16 bits of fraction.
constexpr double kRatioPerFreq = 1e-6 / 65536;

// Sets the word and the problem by the kernel's state.
void Judge(int state, const timex& values, SourceReport& report) {
  if (state == TIME_ERROR || (values.status & STA_UNSYNC) != 0) {
    report.word = Word::kUnsynchronised;
    report.problem =
        "the kernel says that the clock is not synchronised; start a clock daemon that tells the "
        "kernel (chrony: rtcsync)";
  } else if (state > TIME_ERROR) {
    report.problem = absl::StrCat("adjtimex gave the unknown clock state ", state,
                                  "; use a clock daemon that can be asked itself (--clock chrony)");
  } else if (values.maxerror < 0 || values.maxerror > kMaxErrorLimitUs) {
    report.problem = absl::StrCat("the kernel's maxerror of ", values.maxerror,
                                  " us makes no sense; restart the clock daemon");
  } else if (values.maxerror == 0) {
    report.problem =
        "the clock daemon tells the kernel an error of 0, which no clock has; use one that states "
        "its error (chrony), or a fixed bound";
  } else {
    report.word = Word::kSynchronised;
    report.error_bound_ns = int64_t{values.maxerror} * kNsPerUs;
  }
}

}  // namespace

KernelClockSource::KernelClockSource(Adjtimex adjtimex) : adjtimex_(std::move(adjtimex)) {}

SourceReport KernelClockSource::Ask(int64_t monotonic_ns) {
  SourceReport report;
  report.source = "kernel";
  timex values = {};
  const int state = adjtimex_(&values);
  if (state < 0) {
    report.problem = absl::StrCat("adjtimex failed: ", strerror(-state),
                                  "; allow the agent this system call, or use --clock fixed");
    return report;
  }
  Judge(state, values, report);
  // maxerror is renewed at the turn of a second, so what it says is up to a second old.
  report.bound_age_ns = kNsPerSecond;
  const KernelUpdates updates = updates_.Note(values, monotonic_ns);
  report.update_id = updates.id;
  report.since_update_ns = updates.since_ns;
  report.update_interval_ns = updates.interval_ns;
  report.tai_offset_s = TaiOffsetS(values);
  report.leap_second = LeapSecond(state, values);
  report.frequency_correction = static_cast<double>(values.freq) * kRatioPerFreq;
  return report;
}

}  // namespace tsc_handoff::clock
