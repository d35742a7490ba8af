#include "server/clock/reference.h"

#include <algorithm>
#include <limits>

namespace tsc_handoff::clock {
namespace {

using uint128 = unsigned __int128;

constexpr int64_t kClockResolutionNs = 1;
// Enough to lose an interrupt; a probe has eight rounds anyway.
constexpr int kStampBrackets = 4;

struct Bracket {
  uint64_t before_ticks = 0;
  uint64_t width_ticks = 0;
  int64_t realtime_ns = 0;
  // Read right after the bracket, so as not to widen it; with it the reading took all_ticks.
  int64_t monotonic_ns = 0;
  uint64_t all_ticks = 0;
};

// ticks * 10^6 / khz, rounded up, and a thousandth more: no frequency is known worse than that.
int64_t TicksToNsUp(uint64_t ticks, uint32_t khz) {
  const uint128 nominal_ns = (uint128{ticks} * 1'000'000 + khz - 1) / khz;
  const uint128 ns = nominal_ns + nominal_ns / 1000;
  constexpr uint128 kMax = std::numeric_limits<int64_t>::max() - kClockResolutionNs;
  return static_cast<int64_t>(std::min(ns, kMax));
}

std::optional<Bracket> Narrowest(HostClock& host_clock, int brackets) {
  std::optional<Bracket> best;
  for (int i = 0; i < brackets; ++i) {
    Bracket bracket;
    bracket.before_ticks = host_clock.ReadTsc();
    bracket.realtime_ns = host_clock.ReadRealtimeNs();
    const uint64_t after_ticks = host_clock.ReadTsc();
    bracket.monotonic_ns = host_clock.ReadMonotonicNs();
    const uint64_t end_ticks = host_clock.ReadTsc();
    if (after_ticks < bracket.before_ticks || end_ticks < after_ticks) continue;
    bracket.width_ticks = after_ticks - bracket.before_ticks;
    bracket.all_ticks = end_ticks - bracket.before_ticks;
    if (!best.has_value() || bracket.width_ticks < best->width_ticks) best = bracket;
  }
  if (best.has_value() && best->realtime_ns <= 0) return std::nullopt;
  return best;
}

uint64_t MiddleTicks(const Bracket& bracket) {
  return bracket.before_ticks + bracket.width_ticks / 2;
}

// The longer half: an odd width has no middle.
int64_t ReadErrorNs(const Bracket& bracket, uint32_t khz) {
  return TicksToNsUp(bracket.width_ticks - bracket.width_ticks / 2, khz) + kClockResolutionNs;
}

time::TimeReference WithQuality(const ClockQuality& quality, uint32_t host_tsc_khz) {
  time::TimeReference reference;
  reference.tai_offset_s = quality.tai_offset_s;
  reference.leap_second = quality.leap_second;
  reference.clock_trusted = quality.trusted;
  reference.clock_error_ns = quality.trusted ? quality.error_bound_ns : 0;
  reference.host_tsc_khz = host_tsc_khz;
  return reference;
}

}  // namespace

ClockInstant ReadInstant(HostClock& host_clock) {
  ClockInstant best;
  for (int i = 0; i < kBrackets; ++i) {
    ClockInstant instant;
    const int64_t before_ns = host_clock.ReadMonotonicNs();
    instant.realtime_ns = host_clock.ReadRealtimeNs();
    instant.host_tsc_ticks = host_clock.ReadTsc();
    instant.width_ns = host_clock.ReadMonotonicNs() - before_ns;
    instant.monotonic_ns = before_ns + instant.width_ns / 2;
    if (i == 0 || instant.width_ns < best.width_ns) best = instant;
  }
  return best;
}

std::optional<time::TimeReference> TakeReference(HostClock& host_clock,
                                                 const ClockSnapshot& snapshot,
                                                 uint32_t host_tsc_khz) {
  const std::optional<Bracket> bracket = Narrowest(host_clock, kBrackets);
  if (!bracket.has_value()) return std::nullopt;
  const ClockInstant now = {bracket->realtime_ns, bracket->monotonic_ns,
                            TicksToNsUp(bracket->all_ticks, host_tsc_khz),
                            bracket->before_ticks + bracket->all_ticks / 2};
  time::TimeReference reference = WithQuality(QualityAt(snapshot, now), host_tsc_khz);
  reference.host_tsc_ticks = MiddleTicks(*bracket);
  reference.realtime_ns = bracket->realtime_ns;
  reference.read_error_ns = ReadErrorNs(*bracket, host_tsc_khz);
  reference.method = time::ReferenceMethod::kBracketed;
  return reference;
}

std::optional<time::ClockStamp> TakeStamp(HostClock& host_clock, uint32_t host_tsc_khz) {
  const std::optional<Bracket> bracket = Narrowest(host_clock, kStampBrackets);
  if (!bracket.has_value()) return std::nullopt;
  return time::ClockStamp{MiddleTicks(*bracket), bracket->realtime_ns,
                          ReadErrorNs(*bracket, host_tsc_khz)};
}

}  // namespace tsc_handoff::clock
