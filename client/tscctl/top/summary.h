// The first line of `tscctl top`: what is wrong, and how much there is of everything.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_SUMMARY_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_SUMMARY_H_

#include <string>
#include <vector>

#include "client/tscctl/top/snapshot.h"

namespace tsc_handoff::tscctl {

struct Summary {
  // "1 agent away", the most pressing first; empty when all is well.
  std::vector<std::string> alarms;
  // "2 hosts", "200 VMs, 198 running", "3 handoffs".
  std::vector<std::string> counts;
};

Summary Summarise(const Snapshot& snapshot);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_SUMMARY_H_
