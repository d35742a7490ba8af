// tscctl's tables of clocks.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_REPORT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_REPORT_H_

#include <string>

#include "client/tscctl/clock_comparison.h"
#include "client/tscctl/format.h"
#include "client/tscctl/result.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// Whether the clock is trusted, its status, bound, age, TAI offset and leap second.
void AddClockFacts(const tschandoff::v1::ClockInfo& clock, const Palette& palette, Facts* facts);

// One clock, from what its agent says of the whole host.
void PrintClock(const tschandoff::v1::HostInfo& host, Io& io);

// What both hosts claim, what was measured, and the verdict.
void PrintComparison(const ClockComparison& comparison, Io& io);

// What a probe that an apply made has measured of the source's clock.
std::string ProbeText(const tschandoff::v1::ClockProbe& probe);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_REPORT_H_
