// What reading the agent's configuration again comes to.
#ifndef TSC_HANDOFF_SERVER_SERVICE_RELOAD_H_
#define TSC_HANDOFF_SERVER_SERVICE_RELOAD_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tsc_handoff::service {

// See ReloadResponse.
struct Reloaded {
  std::vector<std::string> changed;
  std::vector<std::string> needs_restart;
};

// Thread-safe; may block for as long as a file takes. Errors: kConfigInvalid, and nothing has
// changed.
using Reloader = std::function<absl::StatusOr<Reloaded>()>;

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_RELOAD_H_
