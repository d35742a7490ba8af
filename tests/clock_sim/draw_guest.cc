#include "tests/clock_sim/draw_guest.h"

#include <cstdint>

#include "server/time/tsc_scaling.h"
#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

// Within what KVM leaves unscaled.
uint32_t Near(uint32_t khz, Random& random) {
  const int64_t limit = int64_t{khz} * time::kKvmTscTolerancePpm / 1'000'000 - 1;
  return static_cast<uint32_t>(khz + random.WithinOftenAt(limit));
}

uint64_t TicksIn(int64_t ps, uint32_t khz) {
  return static_cast<uint64_t>(static_cast<__int128>(ps) * khz / kPpb);
}

bool Scales(const SimHostOptions& host, uint32_t guest_khz) {
  return !time::WithinKvmTolerance(host.clocks.tsc_khz, guest_khz);
}

void DrawFrequencies(Random& random, Scenario& scenario) {
  const uint32_t source_khz = scenario.source.clocks.tsc_khz;
  scenario.guest_khz = random.Pick({source_khz, Near(source_khz, random),
                                    static_cast<uint32_t>(random.Between(200'000, 5'000'000))});
  uint32_t& destination_khz = scenario.destination.clocks.tsc_khz;
  destination_khz = random.Pick({source_khz, Near(scenario.guest_khz, random), destination_khz});
  for (SimHostOptions* host : {&scenario.source, &scenario.destination})
    if (Scales(*host, scenario.guest_khz)) host->can_scale = true;
}

// A TSC that wraps at about the time of the handoff.
void DrawWrap(Random& random, Scenario& scenario, SimHostOptions& host) {
  const int64_t whole_ps = scenario.warm_up_ps + 2 * scenario.blackout_ps + kPsPerMs;
  host.clocks.tsc_start_ticks = 0 - TicksIn(random.Between(1, whole_ps), host.clocks.tsc_khz);
}

void DrawOffsets(Random& random, Scenario& scenario) {
  const SimHostOptions& source = scenario.source;
  const auto scaling = time::TscScaling::For(
      {source.clocks.tsc_khz, source.can_scale, source.frac_bits}, scenario.guest_khz);
  const uint64_t at_capture = scaling->Scale(source.clocks.tsc_start_ticks +
                                             TicksIn(scenario.warm_up_ps, source.clocks.tsc_khz));
  uint64_t first = random.Bits();
  if (random.Percent(20))  // the guest's TSC wraps
    first = 0 - at_capture - static_cast<uint64_t>(random.OctaveBetween(1, int64_t{1} << 36));
  const int64_t vcpus = random.Between(1, 4);
  const bool equal = random.Percent(40);
  for (int64_t i = 0; i < vcpus; ++i) {
    const int64_t phase =
        i == 0 || equal ? 0 : random.EitherSign(random.OctaveBetween(1, int64_t{1} << 60));
    scenario.offsets.push_back(first + static_cast<uint64_t>(phase));
  }
}

}  // namespace

void DrawGuest(Random& random, Scenario& scenario) {
  DrawFrequencies(random, scenario);
  // A scaled guest's TSC jumps when its host's wraps, with or without a handoff; so that happens on
  // sources only, where it is what a handoff spares the guest.
  if (random.Percent(10)) DrawWrap(random, scenario, scenario.source);
  if (random.Percent(10) && !Scales(scenario.destination, scenario.guest_khz))
    DrawWrap(random, scenario, scenario.destination);
  DrawOffsets(random, scenario);
}

}  // namespace tsc_handoff::clock_sim
