// What each role may do: the one table of the agent's methods. A method that is not in it is
// refused to everybody, and a test compares the table with the services that the agent serves.
//
// Threading: pure functions over constants.
#ifndef TSC_HANDOFF_SERVER_AUTH_ROLES_H_
#define TSC_HANDOFF_SERVER_AUTH_ROLES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff::auth {

// Each may do what the one before it may, but for kVmm, which is about the VMMs' socket and nothing
// else.
enum class Role {
  kPeer,          // another host's agent: probes this one's clock
  kViewer,        // reads
  kOrchestrator,  // hands VMs over
  kAdmin,         // changes the agent itself
  kVmm,           // registers VMs
};

struct MethodRule {
  absl::string_view service;  // "tschandoff.v1.TscAgent"
  absl::string_view method;   // "GetVm"
  // Nullopt: whoever can connect.
  std::optional<Role> needs;
  // Changes something, or prepares to: each call is a line of the audit.
  bool changes = false;
};

const std::vector<MethodRule>& MethodRules();

// Null when there is none.
const MethodRule* FindRule(absl::string_view service, absl::string_view method);

// Whether who has `has` may do what takes `needs`.
bool Includes(Role has, Role needs);

// "orchestrator"
const char* NameOf(Role role);
std::optional<Role> RoleNamed(absl::string_view name);
std::vector<std::string> RoleNames();

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_ROLES_H_
