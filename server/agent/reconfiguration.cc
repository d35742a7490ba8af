#include "server/agent/reconfiguration.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/error.h"
#include "server/base/log.h"

namespace tsc_handoff::agent {

service::Reloaded Compare(const std::map<std::string, std::string>& before,
                          const std::map<std::string, std::string>& now) {
  std::set<std::string> keys;
  for (const auto& [key, value] : before) keys.insert(key);
  for (const auto& [key, value] : now) keys.insert(key);
  service::Reloaded differs;
  for (const std::string& key : keys) {
    const auto was = before.find(key);
    const auto is = now.find(key);
    if (was != before.end() && is != now.end() && was->second == is->second) continue;
    const std::string said =
        absl::StrCat(key, ":", is == now.end() ? "" : absl::StrCat(" ", is->second));
    (MayChange(key) ? differs.changed : differs.needs_restart).push_back(said);
  }
  return differs;
}

Reconfiguration::Reconfiguration(std::vector<std::string> arguments, const CommandLine& current,
                                 std::function<void(const CommandLine&)> apply)
    : arguments_(std::move(arguments)),
      has_file_(!current.config.empty() || !current.policy.empty()),
      apply_(std::move(apply)),
      given_(current.given) {}

absl::StatusOr<service::Reloaded> Reconfiguration::Reload() {
  if (!has_file_)
    return Error(Reason::kConfigInvalid,
                 "the agent was started without --config and --policy; there is nothing to read "
                 "again");
  const std::lock_guard<std::mutex> lock(mutex_);
  const CommandLine now = ParseCommandLine(arguments_);
  if (!now.message.empty()) {
    const std::string why(absl::StripSuffix(absl::StripPrefix(now.message, "tsc-agent: "), "\n"));
    Log(LogLevel::kError, "the configuration was not read again", {{"why", why}});
    return Error(Reason::kConfigInvalid, why);
  }
  service::Reloaded differs = Compare(given_, now.given);
  apply_(now);
  // What needs a restart goes on as it was, and is named again next time.
  std::map<std::string, std::string> given;
  for (const auto& [key, value] : given_) {
    if (!MayChange(key)) given.emplace(key, value);
  }
  for (const auto& [key, value] : now.given) {
    if (MayChange(key)) given.emplace(key, value);
  }
  given_ = std::move(given);
  for (const std::string& setting : differs.changed)
    Log(LogLevel::kInfo, "a setting has changed", {{"setting", setting}});
  for (const std::string& setting : differs.needs_restart)
    Log(LogLevel::kWarn, "a setting takes effect at the next start", {{"setting", setting}});
  return differs;
}

}  // namespace tsc_handoff::agent
