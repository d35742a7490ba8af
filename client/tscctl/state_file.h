// A TscState in a file, for `tscctl get --out`, `set --in` and `decode`.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_STATE_FILE_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_STATE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tschandoff/v1/tsc_state.pb.h"

namespace tsc_handoff::tscctl {

// Writes the state so that `path` holds all of it or what it held before, readable by its owner
// only. With `overwrite` false never replaces a file, whoever made it meanwhile.
absl::Status WriteStateFile(const std::string& path, const tschandoff::v1::TscState& state,
                            bool overwrite);

// Reads a state and finds out whether it is one and is undamaged. One of a newer format version is
// returned too: the agent may know it.
absl::StatusOr<tschandoff::v1::TscState> ReadStateFile(const std::string& path);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_STATE_FILE_H_
