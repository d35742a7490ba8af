// The three tables of `tscctl top`, from what is known. What is wrong with a row is its severity
// and stands in its last column in words.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_TABLES_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_TABLES_H_

#include "client/tscctl/top/snapshot.h"
#include "client/tscctl/top/table.h"

namespace tsc_handoff::tscctl {

TopTable HostTable(const Snapshot& snapshot, const Moment& now);
TopTable VmTable(const Snapshot& snapshot);
TopTable HandoffTable(const Snapshot& snapshot, const Moment& now);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_TABLES_H_
