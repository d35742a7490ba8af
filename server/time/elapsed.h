// How much time has passed since a capture, and how wrong that may be.
//
// Up to two intervals must hold the time that really passed, and so does their intersection:
//
//     clocks   W_dst - W_src  +- (read_src + read_dst + clock_src + clock_dst + rate)
//              on the TAI scale where both hosts know it; there when both clocks are trusted
//     probe    (TSC_src when probed - H_src) / f_src + (H_dst - TSC_dst when probed) / f_dst
//              +- (half the round trip + rate since the probe)
//              needs no wall clock at all; there when the source's agent was probed
//
// The probe counts the source's own TSC, which is the very thing that the guest's time is made of,
// so neither a step of a wall clock nor a wrong claim moves it. When the two exclude each other, a
// clock is not what its host says. On one host, in one boot, the TSC itself tells the time exactly.
//
// Pure: no I/O, no clock, no logging.
#ifndef TSC_HANDOFF_SERVER_TIME_ELAPSED_H_
#define TSC_HANDOFF_SERVER_TIME_ELAPSED_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "server/time/clock_probe.h"
#include "server/time/tsc_scaling.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::time {

enum class ApplyMode {
  kElapsed,  // guest time moves on by the time that passed
  kExact,    // the guest finds the captured value
};

// What the caller and the agent's configuration allow.
struct ApplyPolicy {
  ApplyMode mode = ApplyMode::kElapsed;
  int64_t max_error_ns = 1'000'000;
  int64_t max_elapsed_ns = 300'000'000'000;
  bool allow_untrusted_clock = false;
  bool equalise = false;
  // How far the rate of a disciplined clock, and of the TSC as its frequency is known, may be off.
  uint32_t rate_uncertainty_ppm = 50;
};

// See ElapsedBasis in tsc_agent.proto; the numbers are the same.
enum class ElapsedBasis {
  kNone = 0,
  kClocks = 1,
  kClocksAndProbe = 2,
  kSameHostTsc = 3,
};

// Parts of the bound on the error of guest time; see ErrorBound in tsc_agent.proto.
struct ErrorBound {
  int64_t source_read_ns = 0;
  int64_t destination_read_ns = 0;
  int64_t source_clock_ns = 0;
  int64_t destination_clock_ns = 0;
  int64_t rate_ns = 0;
  int64_t rounding_ns = 0;
  int64_t probe_ns = 0;
  int64_t total_ns() const;
};

struct Elapsed {
  int64_t elapsed_ns = 0;  // 0 in EXACT mode
  uint64_t elapsed_ticks = 0;
  ElapsedBasis basis = ElapsedBasis::kNone;
  // None in EXACT mode, nor when an untrusted clock was accepted and nothing was measured.
  std::optional<ErrorBound> bound;
  // The least time that can have passed. Below 0: it is not proven yet that any has.
  int64_t earliest_ns = 0;
  bool used_tai = false;  // immune to leap seconds
  bool accepted_untrusted_clock = false;
};

// What is known beside the two references.
struct ElapsedEvidence {
  bool same_host = false;           // the state's boot is this host's
  std::optional<ClockProbe> probe;  // of the source, by the destination, after the capture
};

// Reckons the time from the state's reference to `destination`. `scaling` is the destination's for
// this guest. elapsed_ticks is meaningful when earliest_ns >= 0; while it is below, ask again with
// a later reference. Errors: kStateWithoutTime; kClockUntrusted (metadata "side": source or
// destination); kClocksDisagree; kElapsedOutOfRange; kClockBoundExceeded; kTimeWouldGoBack when
// this host's own TSC is behind its capture. In kExact mode none of these.
absl::StatusOr<Elapsed> ReckonElapsed(const TscState& state, const TimeReference& destination,
                                      const TscScaling& scaling, const ApplyPolicy& policy,
                                      const ElapsedEvidence& evidence = {});

// OK once it is certain that time has passed since the capture: elapsed_ns and earliest_ns are 0 or
// more. kTimeWouldGoBack otherwise.
absl::Status CheckTimeHasPassed(const Elapsed& elapsed);

// By how much faster the guest runs on a host than its state says, in parts per million: not 0
// where KVM does not scale. REQUIRES: guest_khz > 0.
double RateErrorPpm(const TscScaling& scaling, uint32_t host_khz, uint32_t guest_khz);

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_ELAPSED_H_
