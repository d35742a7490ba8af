// All that is known of one host, VM or handoff, and the commands that go on from there.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_DETAILS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_DETAILS_H_

#include <string>
#include <vector>

#include "client/tscctl/top/snapshot.h"
#include "client/tscctl/top/table.h"

namespace tsc_handoff::tscctl {

struct Detail {
  // Empty for a line of its own, such as a command.
  std::string name = {};
  std::string value = {};
  Look look = Look::kPlain;
};

struct Details {
  // "VM vm1 on host1".
  std::string title;
  std::vector<Detail> lines;
};

// `id` is a row's of the table that the function's name says. What is not there any more has a line
// that says so.
Details HostDetails(const Snapshot& snapshot, const RowId& id, const Moment& now);
Details VmDetails(const Snapshot& snapshot, const RowId& id);
Details HandoffDetails(const Snapshot& snapshot, const RowId& id, const Moment& now);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_DETAILS_H_
