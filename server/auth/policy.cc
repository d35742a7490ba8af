#include "server/auth/policy.h"

#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/auth/pattern.h"
#include "server/base/accounts.h"
#include "server/base/sha256.h"
#include "server/config/text_file.h"

namespace tsc_handoff::auth {
namespace {

template <typename T>
bool Has(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool IsInGroup(const Identity& identity, uint32_t gid) {
  return identity.gid == gid || Has(identity.groups, gid);
}

bool NamesOneOf(const std::vector<std::string>& patterns, const std::vector<std::string>& names,
                bool (*matches)(const std::string&, const std::string&)) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return matches(pattern, name); });
  });
}

bool IsAbout(const Binding& binding, const Identity& identity) {
  switch (identity.kind) {
    case Identity::Kind::kUnix:
      return Has(binding.users, identity.uid) ||
             std::any_of(binding.groups.begin(), binding.groups.end(),
                         [&](uint32_t gid) { return IsInGroup(identity, gid); });
    case Identity::Kind::kCertificate:
      return NamesOneOf(binding.certificates, identity.uris, MatchesUri) ||
             NamesOneOf(binding.certificates, identity.dns, MatchesDns);
    case Identity::Kind::kAnonymous:
      return binding.anonymous || (binding.plain_tcp && !identity.tls);
    case Identity::Kind::kUnknown:
      break;
  }
  return false;
}

}  // namespace

bool VmScope::Holds(const std::string& vm_id) const {
  return all || std::any_of(patterns.begin(), patterns.end(),
                            [&](const std::string& pattern) { return MatchesVm(pattern, vm_id); });
}

Verdict Decide(const Policy& policy, const Identity& identity, Role needs) {
  Verdict verdict;
  for (const Binding& binding : policy.bindings) {
    if (!Includes(binding.role, needs) || !IsAbout(binding, identity)) continue;
    verdict.permitted = true;
    if (binding.vms.all) {
      verdict.vms = VmScope::All();
      break;
    }
    verdict.vms.patterns.insert(verdict.vms.patterns.end(), binding.vms.patterns.begin(),
                                binding.vms.patterns.end());
  }
  return verdict;
}

std::string RolesInWords(const Policy& policy, const Identity& identity) {
  std::vector<std::string> names;
  for (const Binding& binding : policy.bindings) {
    const std::string name = NameOf(binding.role);
    if (IsAbout(binding, identity) && !Has(names, name)) names.push_back(name);
  }
  return names.empty() ? "none" : absl::StrJoin(names, ", ");
}

bool BindsVmms(const Policy& policy) {
  return std::any_of(policy.bindings.begin(), policy.bindings.end(),
                     [](const Binding& binding) { return binding.role == Role::kVmm; });
}

Policy BuiltInPolicy(uint32_t agent_uid, uint32_t agent_gid) {
  Policy policy;
  policy.bindings.push_back(
      {.role = Role::kAdmin, .users = {0, agent_uid}, .groups = {agent_gid}, .plain_tcp = true});
  return policy;
}

absl::StatusOr<Policy> ReadPolicy(const std::string& path) {
  auto text = config::ReadTextFile(path);
  if (!text.ok()) return text.status();
  struct stat about = {};
  if (stat(path.c_str(), &about) == 0 && (about.st_mode & S_IWOTH) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": everybody may write it (mode ",
                                                   absl::StrFormat("%04o", about.st_mode & 07777),
                                                   "); chmod o-w it"));
  }
  auto policy = ParsePolicy(*text, path, {ParseUser, ParseGroup});
  if (policy.ok()) policy->digest = absl::BytesToHexString(Sha256(*text));
  return policy;
}

}  // namespace tsc_handoff::auth
