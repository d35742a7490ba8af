// What the agent's enumerations are called before people.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_NAMES_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_NAMES_H_

#include <string>

#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

// "synchronised"; what an agent newer than this program says is "unknown".
std::string ClockStatusName(tschandoff::v1::ClockInfo::Status status);

// "CAPTURED", "source", "running", "cooperative"; "?" for what is not known.
std::string HandoffStateName(tschandoff::v1::Handoff::State state);
std::string HandoffSideName(tschandoff::v1::Handoff::Side side);
std::string RunStateName(tschandoff::v1::Vm::RunState state);
std::string PortName(tschandoff::v1::Vm::Port port);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_NAMES_H_
