// Ticks, nanoseconds and parts per million. Pure; ns products go through 128 bits.
#ifndef TSC_HANDOFF_SERVER_TIME_TICKS_H_
#define TSC_HANDOFF_SERVER_TIME_TICKS_H_

#include <cstdint>

namespace tsc_handoff::time {

// The value, or the end of int64's range that is nearest to it.
int64_t Saturate(__int128 value);

// ns * khz / 10^6, rounded down. REQUIRES: ns >= 0. Wraps modulo 2^64 after 224 years at 2.6 GHz.
uint64_t NsToTicks(int64_t ns, uint32_t khz);

// ticks * 10^6 / khz, rounded towards 0. REQUIRES: khz > 0. Exact for differences below 2^63 ticks.
int64_t TicksToNs(int64_t ticks, uint32_t khz);

// |a - b| in parts per million of b, rounded up. REQUIRES: b > 0.
uint32_t DifferencePpm(uint32_t a, uint32_t b);

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_TICKS_H_
