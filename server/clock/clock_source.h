// ClockSource: who knows how far the host's wall clock may be from true time. Asked now and then by
// the ClockMonitor, outside of any handoff; ClockTracker judges what it says.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CLOCK_SOURCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_CLOCK_SOURCE_H_

#include <cstdint>
#include <optional>
#include <string>

namespace tsc_handoff::clock {

// What a source says at one moment. The default is the safe one: no answer.
struct SourceReport {
  enum class Word {
    kNoAnswer,        // it cannot be reached, or what it says makes no sense
    kUnsynchronised,  // it answers, and says that the clock follows nothing
    kSynchronised,
  };
  Word word = Word::kNoAnswer;
  // Why, when not synchronised: one sentence that says what to do. Empty otherwise.
  std::string problem;

  // Bound in ns on |CLOCK_REALTIME - true time|, above 0; meaningful when synchronised.
  int64_t error_bound_ns = 0;
  // The bound held this long before it was asked for (adjtimex renews it once a second), in ns.
  int64_t bound_age_ns = 0;

  // When the clock was last disciplined, as far as the source can tell. An identity that is another
  // one after each update; nothing where there are no updates to see ("fixed").
  std::optional<int64_t> update_id;
  // How long ago that update was, in ns; meaningful with update_id. A source that sees updates only
  // by comparing what it reads ("kernel") counts from the Ask that saw it.
  int64_t since_update_ns = 0;
  // Usual time between two updates, in ns; 0 not known.
  int64_t update_interval_ns = 0;

  int32_t tai_offset_s = 0;  // CLOCK_TAI - CLOCK_REALTIME, 0 not known
  // A leap second is pending within this UTC day, in progress or only just over.
  bool leap_second = false;
  // Correction that the discipline applies to the oscillator's frequency, as a ratio (1e-6 is 1
  // ppm); for monitoring only.
  double frequency_correction = 0;
  std::string source;  // "chrony", "kernel" or "fixed"
};

class ClockSource {
 public:
  virtual ~ClockSource() = default;
  // `monotonic_ns` is CLOCK_MONOTONIC now. May take as long as a local daemon takes to answer, at
  // most 300 ms.
  virtual SourceReport Ask(int64_t monotonic_ns) = 0;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CLOCK_SOURCE_H_
