#include "server/clock/clock_source.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kNsPerUs = 1000;
// The kernel's NTP_PHASE_LIMIT: it never lets maxerror grow beyond.
constexpr int64_t kMaxErrorLimitUs = 16'000'000;
constexpr int64_t kMaxTaiOffsetS = 1000;
constexpr int64_t kSecondsPerDay = 86'400;
// A leap second comes at the end of a UTC day. This near to it, quality and wall clock could be
// read on different sides.
constexpr int64_t kLeapGuardS = 5;

int SystemAdjtimex(timex* buffer) {
  const int state = adjtimex(buffer);
  return state < 0 ? -errno : state;
}

int32_t TaiOffset(const timex& values) {
  return values.tai > 0 && values.tai <= kMaxTaiOffsetS ? static_cast<int32_t>(values.tai) : 0;
}

// Why a leap second makes this reading doubtful; empty when it does not.
std::string LeapProblem(int state, const timex& values) {
  if (state == TIME_OOP) return "a leap second is in progress; repeat in two seconds";
  if (state != TIME_INS && state != TIME_DEL && state != TIME_WAIT) return "";
  const bool pending = state != TIME_WAIT;
  if (pending && values.time.tv_sec % kSecondsPerDay >= kSecondsPerDay - kLeapGuardS) {
    return absl::StrCat("a leap second comes within ", kLeapGuardS, " s; repeat after it");
  }
  // Across the leap CLOCK_REALTIME alone is a second off, and nothing in the other host's reading
  // would show it.
  if (TaiOffset(values) == 0) {
    return absl::StrCat("a leap second ", pending ? "is due today" : "has just passed",
                        " and the kernel does not know the TAI offset; set it (chrony: leapsectz)");
  }
  return "";
}

// Why the kernel's values cannot be relied on; empty when they can.
std::string Problem(int state, const timex& values) {
  if (state < 0) return absl::StrCat("adjtimex failed: ", strerror(-state));
  if (state == TIME_ERROR || (values.status & STA_UNSYNC) != 0) {
    return "the kernel says that the clock is not synchronised; start a clock daemon that tells "
           "the kernel "
           "(chrony: rtcsync)";
  }
  if (state > TIME_ERROR) return absl::StrCat("adjtimex gave the unknown clock state ", state);
  if (values.maxerror < 0 || values.maxerror > kMaxErrorLimitUs) {
    return absl::StrCat("the kernel's maxerror of ", values.maxerror,
                        " us makes no sense; restart the clock daemon");
  }
  if (values.maxerror == 0) {
    return "the clock daemon tells the kernel an error of 0, which no clock has; use one that "
           "states its error "
           "(chrony), or a fixed bound";
  }
  return LeapProblem(state, values);
}

}  // namespace

KernelClockSource::KernelClockSource() : KernelClockSource(SystemAdjtimex) {}

KernelClockSource::KernelClockSource(Adjtimex adjtimex) : adjtimex_(std::move(adjtimex)) {}

ClockQuality KernelClockSource::Read() {
  timex values = {};
  const int state = adjtimex_(&values);
  ClockQuality quality;
  quality.source = "kernel";
  if (state >= 0) quality.tai_offset_s = TaiOffset(values);
  quality.untrusted_reason = Problem(state, values);
  quality.trusted = quality.untrusted_reason.empty();
  if (quality.trusted) quality.error_bound_ns = int64_t{values.maxerror} * kNsPerUs;
  return quality;
}

FixedClockSource::FixedClockSource(int64_t error_bound_ns, KernelClockSource::Adjtimex adjtimex)
    : error_bound_ns_(error_bound_ns), adjtimex_(adjtimex ? std::move(adjtimex) : SystemAdjtimex) {}

ClockQuality FixedClockSource::Read() {
  timex values = {};
  ClockQuality quality;
  quality.source = "fixed";
  if (adjtimex_(&values) >= 0) quality.tai_offset_s = TaiOffset(values);
  quality.trusted = error_bound_ns_ >= 0;
  if (quality.trusted) {
    quality.error_bound_ns = error_bound_ns_;
  } else {
    quality.untrusted_reason =
        absl::StrCat("the fixed bound of ", error_bound_ns_, " ns is negative; correct it");
  }
  return quality;
}

}  // namespace tsc_handoff::clock
