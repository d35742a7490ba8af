// Where a QEMU's monitor is: "unix:/path/to/socket" or "HOST:PORT".
//
// QMP has no authentication: who reaches a monitor owns that QEMU. So HOST must be the loopback
// interface; a monitor on another machine is reached through a tunnel.
//
// Threading: a value and a pure function.
#ifndef TSC_HANDOFF_CLIENT_QMP_QMP_ADDRESS_H_
#define TSC_HANDOFF_CLIENT_QMP_QMP_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::qmp {

struct QmpAddress {
  std::string text;       // as it was given
  std::string unix_path;  // or, where this is empty:
  bool ipv6 = false;
  std::string host;  // numeric
  uint16_t port = 0;
};

// INVALID_ARGUMENT says what is wrong, in one sentence.
absl::StatusOr<QmpAddress> ParseQmpAddress(absl::string_view text);

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_QMP_ADDRESS_H_
