#include "server/time/elapsed.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/error.h"
#include "server/time/ticks.h"

namespace tsc_handoff::time {
namespace {

using int128 = __int128;

constexpr int64_t kNsPerSecond = 1'000'000'000;
// Both references are in whole ns.
constexpr int64_t kReferenceRoundingNs = 2;
// A scaling ratio is truncated to 32 fraction bits at the least (SVM; VMX has 48).
constexpr int kRatioBits = 32;

std::string Human(int64_t ns) { return absl::FormatDuration(absl::Nanoseconds(ns)); }

// Times that may have passed.
struct Interval {
  int128 lower_ns;
  int128 upper_ns;
};

// W_dst - W_src, on the TAI scale where both hosts know it: CLOCK_REALTIME repeats or skips a
// second at a leap second.
int64_t WallElapsedNs(const TimeReference& source, const TimeReference& destination, bool use_tai) {
  int128 elapsed = int128{destination.realtime_ns} - source.realtime_ns;
  if (use_tai) elapsed += (int128{destination.tai_offset_s} - source.tai_offset_s) * kNsPerSecond;
  return Saturate(elapsed);
}

absl::Status Untrusted(absl::string_view side, absl::string_view why) {
  return Error(Reason::kClockUntrusted, absl::StrCat("the ", side, " host's clock ", why),
               {{"side", std::string(side)}});
}

// Whether the wall clocks may be used at all.
absl::Status CheckWallClocks(const TimeReference& source, const TimeReference& destination,
                             bool use_tai) {
  constexpr char kUnsynchronised[] = "is not known to be synchronised";
  constexpr char kLeap[] =
      "is at a leap second, and the hosts do not both know the TAI offset, so a second could be "
      "counted twice or not at all";
  if (!source.clock_trusted) return Untrusted("source", kUnsynchronised);
  if (!destination.clock_trusted) return Untrusted("destination", kUnsynchronised);
  if (use_tai) return absl::OkStatus();
  if (source.leap_second) return Untrusted("source", kLeap);
  if (destination.leap_second) return Untrusted("destination", kLeap);
  return absl::OkStatus();
}

absl::Status CheckMaxElapsed(int64_t elapsed_ns, int64_t max_elapsed_ns) {
  if (elapsed_ns <= max_elapsed_ns) return absl::OkStatus();
  return Error(Reason::kElapsedOutOfRange,
               absl::StrCat("the state was captured ", Human(elapsed_ns), " ago, the limit is ",
                            Human(max_elapsed_ns)),
               {{"elapsed_ns", absl::StrCat(elapsed_ns)}, {"limit", absl::StrCat(max_elapsed_ns)}});
}

absl::Status CheckBound(const ErrorBound& bound, int64_t max_error_ns) {
  if (bound.total_ns() <= max_error_ns) return absl::OkStatus();
  const int64_t readings_ns =
      Saturate(int128{bound.source_read_ns} + bound.destination_read_ns + bound.probe_ns);
  return Error(
      Reason::kClockBoundExceeded,
      absl::StrCat("guest time could be wrong by up to ", Human(bound.total_ns()),
                   " (source clock ", Human(bound.source_clock_ns), ", destination clock ",
                   Human(bound.destination_clock_ns), ", rate ", Human(bound.rate_ns),
                   ", readings ", Human(readings_ns), "); the limit is ", Human(max_error_ns)),
      {{"error_bound_ns", absl::StrCat(bound.total_ns())}, {"limit", absl::StrCat(max_error_ns)}});
}

// A guest that KVM did not scale on its source ran at that host's rate, not at guest_khz.
uint64_t UnscaledPpm(const TscState& state) {
  const uint32_t source_khz = state.reference->host_tsc_khz;
  if (!WithinKvmTolerance(source_khz, state.guest_khz)) return 0;
  const auto [lower_khz, higher_khz] = std::minmax(source_khz, state.guest_khz);
  return DifferencePpm(higher_khz, lower_khz);
}

int128 Magnitude(int64_t ns) { return ns < 0 ? -int128{ns} : int128{ns}; }

// What rates that are off by `ppm` and, on top of it, by `more_ppm` make of a time.
int64_t PpmOf(int128 time_ns, uint64_t ppm, uint64_t more_ppm = 0) {
  constexpr int128 kMillion = 1'000'000;
  const int128 factor = kMillion * (int128{ppm} + more_ppm) + int128{ppm} * more_ppm;
  return Saturate((time_ns * factor + kMillion * kMillion - 1) / (kMillion * kMillion));
}

// What a scaling ratio that is truncated to whole fraction bits makes of a time, on the source.
int64_t TruncationNs(const TscState& state, int128 time_ns) {
  const uint32_t host_khz = state.reference->host_tsc_khz;
  if (WithinKvmTolerance(host_khz, state.guest_khz)) return 0;
  return Saturate(time_ns * host_khz / (int128{state.guest_khz} << kRatioBits) + 1);
}

// elapsed_ticks is rounded down by less than a tick, which on a slow guest is many ns.
int64_t RoundingNs(uint32_t guest_khz) {
  return kReferenceRoundingNs + (1'000'000 + int64_t{guest_khz} - 1) / guest_khz;
}

// E = E_src + E_dst + |elapsed| * rate uncertainty + rounding, where the time that really passed
// may be longer than the clocks say by all the other parts.
ErrorBound BoundByClocks(const TscState& state, const TimeReference& destination,
                         int64_t elapsed_ns, uint32_t rate_uncertainty_ppm) {
  ErrorBound bound;
  bound.source_read_ns = state.reference->read_error_ns;
  bound.destination_read_ns = destination.read_error_ns;
  bound.source_clock_ns = state.reference->clock_error_ns;
  bound.destination_clock_ns = destination.clock_error_ns;
  bound.rounding_ns = RoundingNs(state.guest_khz);
  const int128 longest_ns = Magnitude(elapsed_ns) + bound.total_ns();
  bound.rate_ns = Saturate(int128{PpmOf(longest_ns, rate_uncertainty_ppm, UnscaledPpm(state))} +
                           TruncationNs(state, longest_ns));
  return bound;
}

// The interval was counted by the source's TSC, so its rate matters only as far as the guest did
// not run by it exactly: unscaled, or scaled by a truncated ratio.
ErrorBound BoundByProbe(const TscState& state, const Interval& interval, int64_t elapsed_ns) {
  ErrorBound bound;
  bound.probe_ns = Saturate((interval.upper_ns - interval.lower_ns + 1) / 2);
  bound.rounding_ns = RoundingNs(state.guest_khz);
  const int128 longest_ns = Magnitude(elapsed_ns) + bound.total_ns();
  bound.rate_ns =
      Saturate(int128{PpmOf(longest_ns, UnscaledPpm(state))} + TruncationNs(state, longest_ns));
  return bound;
}

// How long after the capture `destination` is, by the source's TSC up to the probe and by this
// host's since.
Interval ProbeInterval(const TimeReference& source, const TimeReference& destination,
                       const ClockProbe& probe, uint32_t rate_ppm) {
  const int64_t before_ns =
      TicksToNs(static_cast<int64_t>(probe.peer_tsc_ticks - source.host_tsc_ticks), probe.peer_khz);
  const int64_t since_ns = TicksToNs(
      static_cast<int64_t>(destination.host_tsc_ticks - probe.local_tsc_ticks), probe.local_khz);
  const int128 middle = int128{before_ns} + since_ns;
  // Both rates count: this host's, and the source's, which the guest would have had meanwhile.
  const int128 slack =
      int128{PpmOf(Magnitude(since_ns), uint64_t{2} * rate_ppm)} + kReferenceRoundingNs;
  return {middle + probe.lower_ns - slack, middle + probe.upper_ns + slack};
}

absl::Status Disagree(const Interval& clocks, const Interval& probe) {
  const bool behind = clocks.upper_ns < probe.lower_ns;
  const int64_t gap_ns =
      Saturate(behind ? probe.lower_ns - clocks.upper_ns : clocks.lower_ns - probe.upper_ns);
  return Error(Reason::kClocksDisagree,
               absl::StrCat("by the two hosts' clocks at ", behind ? "most " : "least ",
                            Human(Saturate(behind ? clocks.upper_ns : clocks.lower_ns)),
                            " have passed since the capture, but by the source's TSC at ",
                            behind ? "least " : "most ",
                            Human(Saturate(behind ? probe.lower_ns : probe.upper_ns))),
               {{"gap_ns", absl::StrCat(gap_ns)}});
}

absl::StatusOr<Elapsed> ReckonOnOneHost(const TscState& state, const TimeReference& destination,
                                        const TscScaling& scaling, const ApplyPolicy& policy) {
  const auto host_ticks =
      static_cast<int64_t>(destination.host_tsc_ticks - state.reference->host_tsc_ticks);
  if (host_ticks < 0) {
    return Error(Reason::kTimeWouldGoBack,
                 "this host's TSC is behind its value at the capture, in the same boot: it was "
                 "reset meanwhile, by a suspend or by moving this host itself",
                 {{"elapsed_ticks", absl::StrCat(host_ticks)}});
  }
  Elapsed elapsed;
  elapsed.basis = ElapsedBasis::kSameHostTsc;
  elapsed.elapsed_ns = TicksToNs(host_ticks, destination.host_tsc_khz);
  elapsed.elapsed_ticks =
      scaling.Scale(destination.host_tsc_ticks) - scaling.Scale(state.reference->host_tsc_ticks);
  // Scaling goes by the whole value, so a scaled TSC jumps where the host's begins at 0 again.
  if (scaling.active() && destination.host_tsc_ticks < state.reference->host_tsc_ticks) {
    return Error(Reason::kTimeWouldGoBack,
                 "this host's TSC wrapped round its 64 bits since the capture, which its scaling "
                 "does not survive");
  }
  elapsed.earliest_ns = elapsed.elapsed_ns;
  elapsed.bound = ErrorBound();
  elapsed.used_tai = true;
  if (absl::Status status = CheckMaxElapsed(elapsed.elapsed_ns, policy.max_elapsed_ns);
      !status.ok())
    return status;
  return elapsed;
}

// The part of the intervals that all of them allow, and the bound that follows.
absl::Status Combine(const TscState& state, const TimeReference& destination,
                     const ApplyPolicy& policy, const std::optional<Interval>& probe,
                     Elapsed& elapsed) {
  elapsed.basis = ElapsedBasis::kClocks;
  elapsed.elapsed_ns = WallElapsedNs(*state.reference, destination, elapsed.used_tai);
  std::optional<Interval> clocks;
  if (!elapsed.accepted_untrusted_clock) {
    elapsed.bound =
        BoundByClocks(state, destination, elapsed.elapsed_ns, policy.rate_uncertainty_ppm);
    const int128 half = elapsed.bound->total_ns();
    clocks = Interval{elapsed.elapsed_ns - half, elapsed.elapsed_ns + half};
  }
  if (!probe.has_value()) return absl::OkStatus();
  Interval both = *probe;
  if (clocks.has_value()) {
    both = {std::max(clocks->lower_ns, probe->lower_ns),
            std::min(clocks->upper_ns, probe->upper_ns)};
    if (both.lower_ns > both.upper_ns) return Disagree(*clocks, *probe);
    if (both.lower_ns == clocks->lower_ns && both.upper_ns == clocks->upper_ns)
      return absl::OkStatus();
  }
  elapsed.basis = ElapsedBasis::kClocksAndProbe;
  elapsed.elapsed_ns = Saturate(both.lower_ns + (both.upper_ns - both.lower_ns) / 2);
  elapsed.bound = BoundByProbe(state, both, elapsed.elapsed_ns);
  return absl::OkStatus();
}

}  // namespace

int64_t ErrorBound::total_ns() const {
  return Saturate(int128{source_read_ns} + destination_read_ns + source_clock_ns +
                  destination_clock_ns + rate_ns + rounding_ns + probe_ns);
}

absl::StatusOr<Elapsed> ReckonElapsed(const TscState& state, const TimeReference& destination,
                                      const TscScaling& scaling, const ApplyPolicy& policy,
                                      const ElapsedEvidence& evidence) {
  Elapsed elapsed;
  if (policy.mode == ApplyMode::kExact) return elapsed;
  if (!state.reference.has_value()) {
    return Error(Reason::kStateWithoutTime,
                 "the state has no time reference, so the time since its capture is unknown");
  }
  if (evidence.same_host) return ReckonOnOneHost(state, destination, scaling, policy);
  elapsed.used_tai = state.reference->tai_offset_s != 0 && destination.tai_offset_s != 0;
  const absl::Status usable = CheckWallClocks(*state.reference, destination, elapsed.used_tai);
  if (!usable.ok() && !policy.allow_untrusted_clock) return usable;
  elapsed.accepted_untrusted_clock = !usable.ok();
  std::optional<Interval> probe;
  if (evidence.probe.has_value()) {
    probe =
        ProbeInterval(*state.reference, destination, *evidence.probe, policy.rate_uncertainty_ppm);
  }
  absl::Status status = Combine(state, destination, policy, probe, elapsed);
  status.Update(CheckMaxElapsed(elapsed.elapsed_ns, policy.max_elapsed_ns));
  if (elapsed.bound.has_value()) status.Update(CheckBound(*elapsed.bound, policy.max_error_ns));
  if (!status.ok()) return status;
  const int64_t error_ns = elapsed.bound.has_value() ? elapsed.bound->total_ns() : 0;
  elapsed.earliest_ns = Saturate(int128{elapsed.elapsed_ns} - error_ns);
  if (elapsed.elapsed_ns > 0)
    elapsed.elapsed_ticks = NsToTicks(elapsed.elapsed_ns, state.guest_khz);
  return elapsed;
}

absl::Status CheckTimeHasPassed(const Elapsed& elapsed) {
  if (elapsed.elapsed_ns >= 0 && elapsed.earliest_ns >= 0) return absl::OkStatus();
  return Error(
      Reason::kTimeWouldGoBack,
      absl::StrCat("it is not certain that time has passed since the capture: by the "
                   "clocks ",
                   Human(elapsed.elapsed_ns), ", perhaps only ", Human(elapsed.earliest_ns)),
      {{"elapsed_ns", absl::StrCat(elapsed.elapsed_ns)},
       {"earliest_ns", absl::StrCat(elapsed.earliest_ns)}});
}

double RateErrorPpm(const TscScaling& scaling, uint32_t host_khz, uint32_t guest_khz) {
  if (scaling.active()) return 0;
  return (static_cast<double>(host_khz) - guest_khz) * 1e6 / guest_khz;
}

}  // namespace tsc_handoff::time
