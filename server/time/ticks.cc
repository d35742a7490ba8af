#include "server/time/ticks.h"

#include <algorithm>
#include <limits>

namespace tsc_handoff::time {

int64_t Saturate(__int128 value) {
  constexpr __int128 kMax = std::numeric_limits<int64_t>::max();
  constexpr __int128 kMin = std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(std::clamp(value, kMin, kMax));
}

uint64_t NsToTicks(int64_t ns, uint32_t khz) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(ns) * khz / 1'000'000);
}

int64_t TicksToNs(int64_t ticks, uint32_t khz) {
  return Saturate(static_cast<__int128>(ticks) * 1'000'000 / khz);
}

uint32_t DifferencePpm(uint32_t a, uint32_t b) {
  const uint64_t difference = a > b ? a - b : b - a;
  const uint64_t ppm = (difference * 1'000'000 + b - 1) / b;
  return static_cast<uint32_t>(std::min<uint64_t>(ppm, std::numeric_limits<uint32_t>::max()));
}

}  // namespace tsc_handoff::time
