// Two hosts' clocks as one of their agents compared them, and what that means in a sentence.
//
// Threading: values and pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_COMPARISON_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_COMPARISON_H_

#include <string>

#include "absl/status/status.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// An agent as the caller addressed it, and what its host calls itself.
struct NamedAgent {
  std::string address;
  // Empty where the agent could not be asked.
  std::string host_name;
};

struct ClockComparison {
  // Whose agent probed, and whose was probed.
  NamedAgent local;
  NamedAgent peer;
  // HOST:PORT at which the one probed the other.
  std::string probed_at;
  // What the probing agent answered.
  tschandoff::v1::CompareClocksResponse answer;
};

// How the two are told apart: by their hosts' names where these differ, else by address.
struct Labels {
  std::string local;
  std::string peer;
};
Labels LabelsOf(const ClockComparison& comparison);

// How far the two clocks may be apart if both claims are true and the measurement is as wrong as it
// can be; saturates.
uint64_t AllowedDifferenceNs(const tschandoff::v1::CompareClocksResponse& answer);

// By how much the measured difference exceeds that; 0 where it does not.
uint64_t ExcessNs(const tschandoff::v1::CompareClocksResponse& answer);

// The verdict for people, one sentence or two.
std::string VerdictText(const ClockComparison& comparison);

// OK when the clocks agree; else with reason CLOCKS_DISAGREE, or CLOCK_UNTRUSTED where a host
// claims nothing, and the next step.
absl::Status VerdictStatus(const ClockComparison& comparison);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CLOCK_COMPARISON_H_
