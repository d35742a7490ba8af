// A configuration file's text.
#ifndef TSC_HANDOFF_SERVER_CONFIG_TEXT_FILE_H_
#define TSC_HANDOFF_SERVER_CONFIG_TEXT_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace tsc_handoff::config {

// At most 1 MiB, of a regular file. Errors (without a Reason): "PATH: what is wrong".
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace tsc_handoff::config

#endif  // TSC_HANDOFF_SERVER_CONFIG_TEXT_FILE_H_
