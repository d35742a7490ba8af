// Reconfiguration: reads the agent's command line and configuration file anew, and lets take effect
// what may change while the agent runs.
//
// Threading: thread-safe. Reading the file blocks.
#ifndef TSC_HANDOFF_SERVER_AGENT_RECONFIGURATION_H_
#define TSC_HANDOFF_SERVER_AGENT_RECONFIGURATION_H_

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/agent/options.h"
#include "server/service/reload.h"

namespace tsc_handoff::agent {

// What differs, by key: pure.
service::Reloaded Compare(const std::map<std::string, std::string>& before,
                          const std::map<std::string, std::string>& now);

class Reconfiguration {
 public:
  // `current` is what `arguments`, those after the program's name, were parsed to. `apply` gets a
  // command line of which only the settings count that may change.
  Reconfiguration(std::vector<std::string> arguments, const CommandLine& current,
                  std::function<void(const CommandLine&)> apply);

  // Errors: kConfigInvalid.
  absl::StatusOr<service::Reloaded> Reload();

 private:
  const std::vector<std::string> arguments_;
  const bool has_file_;
  const std::function<void(const CommandLine&)> apply_;
  std::mutex mutex_;
  std::map<std::string, std::string> given_;  // what the agent runs with; guarded by mutex_
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_RECONFIGURATION_H_
