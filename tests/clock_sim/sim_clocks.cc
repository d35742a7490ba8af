#include "tests/clock_sim/sim_clocks.h"

#include <algorithm>

#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr int kTickBits = 70;
constexpr int kRateBits = 44;
constexpr int64_t kLongestOversleepPs = 80 * kPsPerUs;

}  // namespace

SimClocks::SimClocks(World& world, const SimClocksOptions& options, Random random)
    : world_(world),
      options_(options),
      random_(random),
      ticks_per_ps_((int128{options.tsc_khz} * (kPpb + options.tsc_error_ppb) << kTickBits) /
                    (int128{kPpb} * kPpb)),
      base_ps_(world.now_ps()),
      stepped_ps_(options.error_at_start_ps) {}

void SimClocks::Read() {
  int64_t ps = options_.read_ps + random_.Between(0, options_.read_ps);
  if (options_.stall_per_mille > 0 && random_.PerMille(options_.stall_per_mille))
    ps += random_.OctaveBetween(kPsPerNs, options_.longest_stall_ps);
  world_.Advance(ps);
  ++reads_;
  // A trap may set others, and read.
  while (!traps_.empty() && traps_.front().first <= reads_) {
    const Trap trap = std::move(traps_.front().second);
    traps_.erase(traps_.begin());
    trap();
  }
}

void SimClocks::SetTrap(uint64_t nth, Trap trap) {
  const uint64_t number = reads_ + nth;
  const auto later = std::find_if(traps_.begin(), traps_.end(),
                                  [&](const auto& other) { return other.first > number; });
  traps_.insert(later, {number, std::move(trap)});
}

uint64_t SimClocks::ReadTsc() {
  Read();
  return static_cast<uint64_t>(TrueTsc());
}

int64_t SimClocks::ReadRealtimeNs() {
  Read();
  if (watch_realtime_) watch_realtime_();
  return realtime_ns();
}

int64_t SimClocks::ReadMonotonicNs() {
  Read();
  return monotonic_ns();
}

void SimClocks::SleepNs(int64_t ns) {
  if (ns <= 0) return;
  const int64_t until_ns = monotonic_ns() + ns;
  // The rate may change meanwhile.
  while (monotonic_ns() < until_ns)
    world_.Advance(std::max<int64_t>((until_ns - monotonic_ns()) * kPsPerNs / 2, kPsPerNs));
  world_.Advance(random_.Between(0, kLongestOversleepPs));
}

SimClocks::int128 SimClocks::TrueTscAt(int64_t when_ps) const {
  return int128{options_.tsc_start_ticks} + ((int128{when_ps} * ticks_per_ps_) >> kTickBits);
}

SimClocks::int128 SimClocks::Unwrap(uint64_t tsc_ticks) const {
  const int128 now = TrueTsc();
  return now - static_cast<int64_t>(static_cast<uint64_t>(now) - tsc_ticks);
}

int64_t SimClocks::WhenTscWas(int128 true_tsc) const {
  const int128 ticks = (true_tsc - options_.tsc_start_ticks) << kTickBits;
  return static_cast<int64_t>((ticks + ticks_per_ps_ - 1) / ticks_per_ps_);
}

int64_t SimClocks::SlewedPs() const {
  const int64_t since_ps = world_.now_ps() - base_ps_;
  return slewed_base_ps_ + since_ps + static_cast<int64_t>((int128{since_ps} * rate_) >> kRateBits);
}

int64_t SimClocks::realtime_ns() const {
  return options_.realtime_start_ns + FloorNs(SlewedPs() + stepped_ps_) + leap_s_ * kNsPerSecond;
}

int64_t SimClocks::monotonic_ns() const { return options_.uptime_ns + FloorNs(SlewedPs()); }

int64_t SimClocks::ErrorPs() const { return SlewedPs() + stepped_ps_ - world_.now_ps(); }

void SimClocks::SetRatePpb(int64_t rate_ppb) {
  slewed_base_ps_ = SlewedPs();
  base_ps_ = world_.now_ps();
  rate_ = static_cast<int64_t>((int128{rate_ppb} << kRateBits) / kPpb);
}

}  // namespace tsc_handoff::clock_sim
