// Names of users and groups as numbers, by the system's databases. For configuration: what is asked
// may wait for a directory service, so no call of the API asks it.
//
// Threading: thread-safe functions.
#ifndef TSC_HANDOFF_SERVER_BASE_ACCOUNTS_H_
#define TSC_HANDOFF_SERVER_BASE_ACCOUNTS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace tsc_handoff {

// A name or a number. Errors (without a Reason): a sentence for who configured it.
absl::StatusOr<uint32_t> ParseUser(const std::string& text);
absl::StatusOr<uint32_t> ParseGroup(const std::string& text);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_ACCOUNTS_H_
