// Snapshots for the tests of `tscctl top`, and screens as text. Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_TOP_TESTING_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_TOP_TESTING_H_

#include <string>
#include <vector>

#include "client/tscctl/top/screen.h"
#include "client/tscctl/top/snapshot.h"

namespace tsc_handoff::tscctl {

// The moment of the snapshots: 2023-11-14 22:13:20 UTC.
Moment TestNow();

// An agent that answers, whose host is fit, at "NAME:50051", without VMs.
AgentView MakeAgent(const std::string& name);

tschandoff::v1::Vm MakeVm(const std::string& id, bool running = true);

// CAPTURED at the source, begun 2 s before TestNow().
tschandoff::v1::Handoff MakeHandoff(const std::string& id, const std::string& vm_id);

// The lines' texts without their looks, and without blanks at their ends.
std::vector<std::string> TextOf(const Screen& screen);
std::string TextOf(const Line& line);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_TOP_TESTING_H_
