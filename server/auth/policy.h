// Policy: which callers have which roles, for which VMs. What no binding gives is denied.
//
//   bindings:
//     - role: orchestrator
//       certificates: ["spiffe://example.org/orchestrator/*"]
//       vms: ["web-*"]
//
// deploy/config/policy.yaml explains each key.
//
// Threading: plain values and pure functions.
#ifndef TSC_HANDOFF_SERVER_AUTH_POLICY_H_
#define TSC_HANDOFF_SERVER_AUTH_POLICY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/auth/identity.h"
#include "server/auth/roles.h"

namespace tsc_handoff::auth {

// Some VMs, by patterns of their ids, or all.
struct VmScope {
  bool all = false;
  std::vector<std::string> patterns = {};

  static VmScope All() { return {.all = true}; }
  bool Holds(const std::string& vm_id) const;
};

// Gives a role to whoever one of its lists names.
struct Binding {
  Role role = Role::kViewer;
  std::vector<uint32_t> users = {};
  std::vector<uint32_t> groups = {};
  std::vector<std::string> certificates = {};
  bool anonymous = false;
  bool plain_tcp = false;  // anonymous callers, but not by TLS; only the built-in policy has it
  VmScope vms = VmScope::All();
};

struct Policy {
  std::vector<Binding> bindings = {};
  // Where it comes from, to be shown: a path, or "built in".
  std::string source = "built in";
  std::string digest = {};  // of the file's content, in hexadecimal; empty: built in
};

// How names become numbers; each returns a sentence for who configured it as an error.
struct Accounts {
  std::function<absl::StatusOr<uint32_t>(const std::string&)> user;
  std::function<absl::StatusOr<uint32_t>(const std::string&)> group;
};

// Errors (without a Reason): "NAME:LINE: what was expected".
absl::StatusOr<Policy> ParsePolicy(const std::string& text, const std::string& name,
                                   const Accounts& accounts);

// The file at `path`, with this host's users and groups. Refuses one that everybody may write.
absl::StatusOr<Policy> ReadPolicy(const std::string& path);

// What holds without a file: root, the agent's own user and the members of its group are admins;
// so is whoever calls by plain TCP, which listens nowhere unless the operator says so. Certificates
// give nothing.
Policy BuiltInPolicy(uint32_t agent_uid, uint32_t agent_gid);

// What `identity` may do of what takes `needs`: for which VMs. A scope that holds none: nothing.
struct Verdict {
  bool permitted = false;
  VmScope vms = {};
};
Verdict Decide(const Policy& policy, const Identity& identity, Role needs);

// The roles that `identity` has, for some VMs at least; in words, "none" for none.
std::string RolesInWords(const Policy& policy, const Identity& identity);

// Whether the policy says who may register VMs at all. If not, the socket's mode decides alone.
bool BindsVmms(const Policy& policy);

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_POLICY_H_
