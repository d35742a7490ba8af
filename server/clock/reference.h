// Takes the one reference on which all vCPUs of a capture or an apply rest.
//
// Threading: pure but for the clocks that are passed in.
#ifndef TSC_HANDOFF_SERVER_CLOCK_REFERENCE_H_
#define TSC_HANDOFF_SERVER_CLOCK_REFERENCE_H_

#include <optional>

#include "client/vmm/tsc_kvm.h"
#include "server/clock/clock_source.h"
#include "server/clock/host_clock.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::clock {

// Number of brackets of which the narrowest is kept: a bracket that an interrupt or an SMI has
// widened loses.
inline constexpr int kBrackets = 16;

// RDTSC, CLOCK_REALTIME, RDTSC, kBrackets times; keeps the narrowest. The reference is its middle;
// its read_error_ns is half of its width, rounded up, plus 1 ns for the clock's own resolution. A
// bracket whose second RDTSC is below its first is dropped; if all are, or the wall clock is not
// positive, nullopt: the host's TSC is no clock. Takes the quality BEFORE the brackets, since
// reading it may be slow. REQUIRES: host_tsc_khz > 0.
std::optional<time::TimeReference> TakeReference(HostClock& host_clock, ClockSource& source,
                                                 uint32_t host_tsc_khz);

// The same from the pair that KVM_GET_CLOCK gave: read_error_ns is 1. nullopt unless it has both
// KVM_CLOCK_HOST_TSC and KVM_CLOCK_REALTIME, or when the pair lies outside the bracket of TSC
// readings taken around the call.
std::optional<time::TimeReference> ReferenceFromKvm(const tsc_kvmclock& kvmclock,
                                                    const ClockQuality& quality,
                                                    uint32_t host_tsc_khz);

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_REFERENCE_H_
