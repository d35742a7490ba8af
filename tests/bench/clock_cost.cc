#include "tests/bench/clock_cost.h"

#include <chrono>
#include <cstdint>
#include <memory>

#include "server/clock/clock_monitor.h"
#include "server/clock/clock_quality.h"
#include "server/clock/fixed_clock_source.h"
#include "server/clock/host_clock.h"
#include "server/clock/reference.h"

namespace tsc_handoff::bench {
namespace {

using Clock = std::chrono::steady_clock;

int64_t NsSince(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

// To one part in 10,000, which is enough for a width of some hundred ticks.
uint32_t MeasureTscKhz(clock::HostClock& host_clock) {
  constexpr int64_t kMeasureNs = 50'000'000;
  const auto start = Clock::now();
  const uint64_t start_ticks = host_clock.ReadTsc();
  int64_t passed_ns;
  do {
    passed_ns = NsSince(start);
  } while (passed_ns < kMeasureNs);
  const uint64_t ticks = host_clock.ReadTsc() - start_ticks;
  return static_cast<uint32_t>(static_cast<double>(ticks) * 1e6 / static_cast<double>(passed_ns));
}

// One is too short to be timed.
constexpr int kChecks = 100;

int64_t TrustCheckNs(clock::ClockView& view, const clock::ClockInstant& now, bool& trusted) {
  const auto start = Clock::now();
  for (int i = 0; i < kChecks; ++i) trusted &= clock::QualityAt(view.Snapshot(), now).trusted;
  return NsSince(start) / kChecks;
}

}  // namespace

ClockCost MeasureClockCost(int references) {
  clock::LinuxHostClock host_clock;
  clock::ClockMonitor monitor({}, std::make_unique<clock::FixedClockSource>(1000),
                              std::make_unique<clock::LinuxHostClock>());
  bool trusted = true;
  const uint32_t khz = MeasureTscKhz(host_clock);
  ClockCost cost;
  for (int i = 0; i < references; ++i) {
    const auto start = Clock::now();
    const auto reference = clock::TakeReference(host_clock, monitor.Snapshot(), khz);
    const int64_t took_ns = NsSince(start);
    if (!reference.has_value()) continue;
    const int64_t check_ns = TrustCheckNs(monitor, clock::ReadInstant(host_clock), trusted);
    // A clock that is not trusted is known to be so sooner: that would measure something else.
    if (trusted) cost.trust_check_ns.Add(check_ns);
    cost.reference_cost_ns.Add(took_ns);
    // read_error_ns is half the width, and 1 ns for the clock's resolution.
    cost.reference_width_ns.Add(2 * (reference->read_error_ns - 1));
    const uint64_t before_ticks = host_clock.ReadTsc();
    (void)host_clock.ReadRealtimeNs();
    const uint64_t width_ticks = host_clock.ReadTsc() - before_ticks;
    cost.bracket_width_ns.Add(static_cast<int64_t>(static_cast<double>(width_ticks) * 1e6 / khz));
  }
  return cost;
}

}  // namespace tsc_handoff::bench
