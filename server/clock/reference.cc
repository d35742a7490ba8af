#include "server/clock/reference.h"

#include <linux/kvm.h>

#include <algorithm>
#include <limits>

namespace tsc_handoff::clock {
namespace {

using uint128 = unsigned __int128;

constexpr int64_t kClockResolutionNs = 1;

struct Bracket {
  uint64_t before_ticks = 0;
  uint64_t width_ticks = 0;
  int64_t realtime_ns = 0;
};

// ticks * 10^6 / khz, rounded up.
int64_t TicksToNsUp(uint64_t ticks, uint32_t khz) {
  const uint128 ns = (uint128{ticks} * 1'000'000 + khz - 1) / khz;
  constexpr uint128 kMax = std::numeric_limits<int64_t>::max() - kClockResolutionNs;
  return static_cast<int64_t>(std::min(ns, kMax));
}

std::optional<Bracket> Narrowest(HostClock& host_clock) {
  std::optional<Bracket> best;
  for (int i = 0; i < kBrackets; ++i) {
    Bracket bracket;
    bracket.before_ticks = host_clock.ReadTsc();
    bracket.realtime_ns = host_clock.ReadRealtimeNs();
    const uint64_t after_ticks = host_clock.ReadTsc();
    if (after_ticks < bracket.before_ticks) continue;
    bracket.width_ticks = after_ticks - bracket.before_ticks;
    if (!best.has_value() || bracket.width_ticks < best->width_ticks) best = bracket;
  }
  return best;
}

time::TimeReference WithQuality(const ClockQuality& quality, uint32_t host_tsc_khz) {
  time::TimeReference reference;
  reference.tai_offset_s = quality.tai_offset_s;
  reference.clock_trusted = quality.trusted;
  reference.clock_error_ns = quality.trusted ? quality.error_bound_ns : 0;
  reference.host_tsc_khz = host_tsc_khz;
  return reference;
}

}  // namespace

std::optional<time::TimeReference> TakeReference(HostClock& host_clock, ClockSource& source,
                                                 uint32_t host_tsc_khz) {
  const ClockQuality quality = source.Read();
  const std::optional<Bracket> bracket = Narrowest(host_clock);
  if (!bracket.has_value() || bracket->realtime_ns <= 0) return std::nullopt;
  time::TimeReference reference = WithQuality(quality, host_tsc_khz);
  const uint64_t half_ticks = bracket->width_ticks / 2;
  reference.host_tsc_ticks = bracket->before_ticks + half_ticks;
  reference.realtime_ns = bracket->realtime_ns;
  // The longer half: an odd width has no middle.
  reference.read_error_ns =
      TicksToNsUp(bracket->width_ticks - half_ticks, host_tsc_khz) + kClockResolutionNs;
  reference.method = time::ReferenceMethod::kBracketed;
  return reference;
}

std::optional<time::TimeReference> ReferenceFromKvm(const tsc_kvmclock& kvmclock,
                                                    const ClockQuality& quality,
                                                    uint32_t host_tsc_khz) {
  constexpr uint32_t kPair = KVM_CLOCK_HOST_TSC | KVM_CLOCK_REALTIME;
  if ((kvmclock.flags & kPair) != kPair) return std::nullopt;
  if (kvmclock.pair_host_tsc_ticks < kvmclock.tsc_before_ticks) return std::nullopt;
  if (kvmclock.pair_host_tsc_ticks > kvmclock.tsc_after_ticks) return std::nullopt;
  constexpr uint64_t kMaxRealtimeNs = std::numeric_limits<int64_t>::max();
  if (kvmclock.pair_realtime_ns == 0 || kvmclock.pair_realtime_ns > kMaxRealtimeNs)
    return std::nullopt;
  time::TimeReference reference = WithQuality(quality, host_tsc_khz);
  reference.host_tsc_ticks = kvmclock.pair_host_tsc_ticks;
  reference.realtime_ns = static_cast<int64_t>(kvmclock.pair_realtime_ns);
  reference.read_error_ns = 1;
  reference.method = time::ReferenceMethod::kKvmGetClock;
  return reference;
}

}  // namespace tsc_handoff::clock
