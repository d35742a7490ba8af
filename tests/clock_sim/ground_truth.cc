#include "tests/clock_sim/ground_truth.h"

namespace tsc_handoff::clock_sim {
namespace {

using int128 = __int128;

constexpr int64_t kNsPerMillisecond = 1'000'000;

}  // namespace

GuestTruth::GuestTruth(const SimClocks& clocks, const time::TscScaling& scaling,
                       uint64_t host_tsc_ticks)
    : clocks_(clocks),
      scaling_(scaling),
      host_tsc_ticks_(host_tsc_ticks),
      since_tsc_(clocks.Unwrap(host_tsc_ticks)),
      since_ps_(clocks.WhenTscWas(since_tsc_)) {}

int128 GuestTruth::Scale(int128 ticks) const {
  if (!scaling_.active()) return ticks;
  return (ticks * static_cast<int128>(scaling_.ratio())) >> scaling_.frac_bits();
}

int128 GuestTruth::At(int64_t when_ps) const {
  const int128 passed = clocks_.TrueTscAt(when_ps) - since_tsc_;
  return Scale(host_tsc_ticks_ + passed) - Scale(host_tsc_ticks_);
}

bool GuestTruth::WrapsUntil(int64_t when_ps) const {
  return (since_tsc_ >> 64) != (clocks_.TrueTscAt(when_ps) >> 64);
}

int64_t ProbeWrongNs(const time::ClockProbe& probe, const SimClocks& local, const SimClocks& peer) {
  const int64_t when_ps = local.WhenTscWas(local.Unwrap(probe.local_tsc_ticks));
  const int128 ticks = peer.TrueTscAt(when_ps) - peer.Unwrap(probe.peer_tsc_ticks);
  // In units of ns * kHz, so that nothing is rounded.
  const int128 scaled = ticks * kNsPerMillisecond;
  const int128 below = int128{probe.lower_ns} * probe.peer_khz - scaled;
  const int128 above = scaled - int128{probe.upper_ns} * probe.peer_khz;
  const int128 wrong = below > above ? below : above;
  if (wrong <= 0) return 0;
  return static_cast<int64_t>((wrong + probe.peer_khz - 1) / probe.peer_khz);
}

}  // namespace tsc_handoff::clock_sim
