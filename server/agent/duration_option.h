// A flag of the command line that takes a duration, such as 500us, 1ms or 5m.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_AGENT_DURATION_OPTION_H_
#define TSC_HANDOFF_SERVER_AGENT_DURATION_OPTION_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tsc_handoff::agent {

struct DurationRange {
  absl::Duration lowest = absl::Nanoseconds(1);
  absl::Duration highest = absl::Hours(24 * 3650);
};

// Reads `text` into ns; an error message otherwise.
std::string ParseDuration(const std::string& text, int64_t& out_ns,
                          const DurationRange& range = {});

// `out_ns` outlives the parsing.
CLI::Option* AddDuration(CLI::App& app, const std::string& flag, int64_t& out_ns,
                         const std::string& help, const DurationRange& range = {});

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_DURATION_OPTION_H_
