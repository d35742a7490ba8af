// A file that has all of what was written, or what it had before.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WHOLE_FILE_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WHOLE_FILE_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::tscctl {

// "cannot WHAT PATH: ...", with the code that belongs to errno `error`.
absl::Status FileError(int error, absl::string_view what, const std::string& path);

// ALREADY_EXISTS when something is at `path`; OK when a new file can be tried there.
absl::Status CheckFree(const std::string& path);

// Writes `bytes` so that, whatever happens, `path` holds all of it or what it held before; on disk
// when this returns OK. With `overwrite` false never replaces a file, whoever made it meanwhile.
absl::Status WriteWholeFile(const std::string& path, absl::string_view bytes, bool overwrite,
                            mode_t mode);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WHOLE_FILE_H_
