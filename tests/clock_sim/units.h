// Units of the simulation: true time is counted in ps, so that what the clocks round to ns shows.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_UNITS_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_UNITS_H_

#include <cstdint>

namespace tsc_handoff::clock_sim {

inline constexpr int64_t kPsPerNs = 1'000;
inline constexpr int64_t kPsPerUs = 1'000 * kPsPerNs;
inline constexpr int64_t kPsPerMs = 1'000 * kPsPerUs;
inline constexpr int64_t kPsPerSecond = 1'000 * kPsPerMs;

inline constexpr int64_t kNsPerUs = 1'000;
inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNsPerSecond = 1'000'000'000;

inline constexpr int64_t kPpbPerPpm = 1'000;
inline constexpr int64_t kPpb = 1'000'000'000;

// By how much `rate_ppb` moves a clock in `ps`, rounded towards 0.
inline int64_t PpbOfPs(int64_t ps, int64_t rate_ppb) {
  return static_cast<int64_t>(static_cast<__int128>(ps) * rate_ppb / kPpb);
}

// ps / 1000, rounded down.
inline int64_t FloorNs(int64_t ps) {
  return ps >= 0 ? ps / kPsPerNs : -((-ps + kPsPerNs - 1) / kPsPerNs);
}

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_UNITS_H_
