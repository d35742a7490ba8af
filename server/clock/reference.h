// Takes the one reference on which all vCPUs of a capture or an apply rest.
//
// Threading: pure but for the clocks that are passed in.
#ifndef TSC_HANDOFF_SERVER_CLOCK_REFERENCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_REFERENCE_H_

#include <optional>

#include "server/clock/clock_quality.h"
#include "server/clock/host_clock.h"
#include "server/time/clock_probe.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::clock {

// Number of brackets of which the narrowest is kept: a bracket that an interrupt or an SMI has
// widened loses.
inline constexpr int kBrackets = 16;

// The narrowest of kBrackets readings of the wall clock and the TSC within CLOCK_MONOTONIC.
ClockInstant ReadInstant(HostClock& host_clock);

// RDTSC, CLOCK_REALTIME, RDTSC, kBrackets times; keeps the narrowest. The reference is its middle;
// its read_error_ns is half of its width, rounded up, plus 1 ns for the clock's own resolution. A
// bracket whose second RDTSC is below its first is dropped; if all are, or the wall clock is not
// positive, nullopt: the host's TSC is no clock. `snapshot` was taken before: a step of the clock
// since then is seen, and the clock not trusted. REQUIRES: host_tsc_khz > 0. Makes no system call.
std::optional<time::TimeReference> TakeReference(HostClock& host_clock,
                                                 const ClockSnapshot& snapshot,
                                                 uint32_t host_tsc_khz);

// One bracketed reading for a probe; narrowest of a few. nullopt as TakeReference.
std::optional<time::ClockStamp> TakeStamp(HostClock& host_clock, uint32_t host_tsc_khz);

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_REFERENCE_H_
