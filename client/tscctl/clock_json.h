// Clocks and probes as tscctl's JSON, described in the help of `tscctl clock`. Nanoseconds are
// numbers.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_JSON_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_JSON_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "client/tscctl/clock_comparison.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

nlohmann::ordered_json ProbeJson(const tschandoff::v1::ClockProbe& probe);

// Of `tscctl clock`; ends with a newline.
std::string ClockAsJson(const NamedAgent& agent, const tschandoff::v1::ClockInfo& clock);

// Of `tscctl clock A B`; ends with a newline.
std::string ComparisonAsJson(const ClockComparison& comparison);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_JSON_H_
