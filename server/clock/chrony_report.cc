#include "server/clock/chrony_report.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr uint16_t kLeapUnsynchronised = 3;
constexpr uint16_t kMaxStratum = 15;
// What chronyd calls its own clock: 127.127.1.1.
constexpr uint32_t kLocalReference = 0x7f7f0101;

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kMaxFutureNs = kNsPerSecond;
// NTP's own limit for what can be synchronised to; anything above is no bound worth having.
constexpr double kMaxPartS = 16;
constexpr double kMaxFrequencyPpm = 1e6;
// chronyd's longest polling interval is 2^24 s.
constexpr double kMaxUpdateIntervalS = 1 << 24;
// What chronyd tells is how far apart its last two updates were, which says little about the next
// one: those of the burst at its start (iburst) are 2 s apart, and the next one comes when the poll
// is due. So an update is not expected sooner than chronyd polls a server by default (minpoll 6).
constexpr int64_t kLeastUpdateIntervalNs = 64 * kNsPerSecond;
// Updates are further apart, and no slew shifts the time of the last one by as much.
constexpr int64_t kSameUpdateNs = 1'000'000;

SourceReport Report(Word word, std::string problem) {
  SourceReport report;
  report.source = "chrony";
  report.word = word;
  report.problem = std::move(problem);
  return report;
}

SourceReport Absurd(absl::string_view what) {
  return Report(Word::kNoAnswer,
                absl::StrCat("chronyd answers with ", what, ", which makes no sense; restart it"));
}

bool IsIn(double value, double limit) { return value >= 0 && value <= limit; }

// Which value no clock has; empty when there is none.
std::string AbsurdValue(const ChronyTracking& tracking, int64_t realtime_ns) {
  if (!IsIn(tracking.root_delay_s, kMaxPartS))
    return absl::StrCat("a root delay of ", tracking.root_delay_s, " s");
  // It grows from the last update on, so it is never 0 while something is followed.
  if (!IsIn(tracking.root_dispersion_s, kMaxPartS) || tracking.root_dispersion_s == 0)
    return absl::StrCat("a root dispersion of ", tracking.root_dispersion_s, " s");
  if (!IsIn(tracking.update_interval_s, kMaxUpdateIntervalS))
    return absl::StrCat("an update interval of ", tracking.update_interval_s, " s");
  if (!IsIn(std::abs(tracking.frequency_ppm), kMaxFrequencyPpm))
    return absl::StrCat("a frequency error of ", tracking.frequency_ppm, " ppm");
  if (tracking.reference_ns <= 0) return "a last update at no time at all";
  if (tracking.reference_ns - kMaxFutureNs > realtime_ns) return "a last update in the future";
  return "";
}

// Why the clock is not synchronised, by chronyd's own word; empty when it is.
std::string Unsynchronised(const ChronyTracking& tracking) {
  if (tracking.reference_id == kLocalReference) {
    return "chronyd follows nothing but its own clock (local); give it a source, or, if this host "
           "is the reference for all others, say so with --clock fixed:DURATION";
  }
  if (tracking.leap_status == kLeapUnsynchronised || tracking.stratum == 0 ||
      tracking.stratum > kMaxStratum) {
    return "chronyd says that the clock is not synchronised; look at its sources (chronyc "
           "sources)";
  }
  if (!IsIn(std::abs(tracking.correction_s), kMaxPartS)) {
    return absl::StrCat("chronyd is still slewing the clock by ", tracking.correction_s,
                        " s; wait, or let it step the clock (chronyc makestep)");
  }
  return "";
}

}  // namespace

SourceReport ReportFromTracking(const ChronyTracking& tracking, int64_t realtime_ns) {
  if (tracking.leap_status > kLeapUnsynchronised)
    return Absurd(absl::StrCat("the leap status ", tracking.leap_status));
  if (std::string problem = Unsynchronised(tracking); !problem.empty())
    return Report(Word::kUnsynchronised, std::move(problem));
  if (const std::string value = AbsurdValue(tracking, realtime_ns); !value.empty())
    return Absurd(value);
  const double bound_s =
      std::abs(tracking.correction_s) + tracking.root_dispersion_s + tracking.root_delay_s / 2;
  SourceReport report = Report(Word::kSynchronised, "");
  report.error_bound_ns =
      static_cast<int64_t>(std::ceil(bound_s * (1 + kChronyFloatResolution) * kNsPerSecond));
  report.since_update_ns = std::max<int64_t>(realtime_ns - tracking.reference_ns, 0);
  report.update_interval_ns =
      std::max(static_cast<int64_t>(std::ceil(tracking.update_interval_s * kNsPerSecond)),
               kLeastUpdateIntervalNs);
  report.leap_second = tracking.leap_status != 0;
  // chronyd tells the oscillator's error; the correction has the other sign.
  report.frequency_correction = tracking.frequency_ppm * -1e-6;
  return report;
}

int64_t UpdateNames::NameOf(int64_t reference_ns) {
  if (!seen_ns_.has_value() || std::llabs(reference_ns - *seen_ns_) >= kSameUpdateNs)
    name_ = reference_ns;
  seen_ns_ = reference_ns;
  return name_;
}

}  // namespace tsc_handoff::clock
