// ParsePolicy: a policy from YAML, and what is wrong with one, with its line.
#include <yaml-cpp/yaml.h>

#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/auth/pattern.h"
#include "server/auth/policy.h"
#include "server/config/yaml_file.h"

namespace tsc_handoff::auth {
namespace {

constexpr size_t kMaxBindings = 1000;

absl::Status At(const std::string& name, const YAML::Mark& mark, const std::string& what) {
  return absl::InvalidArgumentError(config::AtLine(name, mark, what));
}

// Parses one binding; the methods return the first fault.
class BindingParser {
 public:
  BindingParser(const std::string& name, const Accounts& accounts)
      : name_(name), accounts_(accounts) {}

  absl::StatusOr<Binding> Parse(const YAML::Node& node) {
    if (!node.IsMap())
      return At(name_, node.Mark(), "a binding was expected: role, and whom it is for");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return At(name_, entry.first.Mark(), "a key must be a word");
      const std::string key = entry.first.Scalar();
      if (!seen.insert(key).second)
        return At(name_, entry.first.Mark(), absl::StrCat(key, ": it is there twice"));
      if (absl::Status status = ParseKey(key, entry.first, entry.second); !status.ok())
        return status;
    }
    if (seen.count("role") == 0)
      return At(name_, node.Mark(),
                absl::StrCat("role was expected: one of ", absl::StrJoin(RoleNames(), ", ")));
    return Checked(node, seen);
  }

 private:
  absl::Status ParseKey(const std::string& key, const YAML::Node& where, const YAML::Node& value) {
    if (key == "role") return ParseRole(where, value);
    if (key == "users") return ParseNumbers(key, where, value, accounts_.user, binding_.users);
    if (key == "groups") return ParseNumbers(key, where, value, accounts_.group, binding_.groups);
    if (key == "certificates")
      return ParsePatterns(key, where, value, FaultOfCertificatePattern, binding_.certificates);
    if (key == "vms") {
      binding_.vms.all = false;
      return ParsePatterns(key, where, value, FaultOfVmPattern, binding_.vms.patterns);
    }
    if (key == "anonymous") return ParseAnonymous(where, value);
    return At(name_, where.Mark(),
              absl::StrCat(key,
                           ": no such key; role, users, groups, certificates, anonymous and "
                           "vms were expected"));
  }

  absl::Status ParseRole(const YAML::Node& where, const YAML::Node& value) {
    const auto role = value.IsScalar() ? RoleNamed(value.Scalar()) : std::nullopt;
    if (!role.has_value())
      return At(
          name_, where.Mark(),
          absl::StrCat("role: one of ", absl::StrJoin(RoleNames(), ", "), " was expected",
                       value.IsScalar() ? absl::StrCat(", not \"", value.Scalar(), "\"") : ""));
    binding_.role = *role;
    return absl::OkStatus();
  }

  absl::Status ParseAnonymous(const YAML::Node& where, const YAML::Node& value) {
    if (!value.IsScalar() || (value.Scalar() != "true" && value.Scalar() != "false"))
      return At(name_, where.Mark(), "anonymous: true or false was expected");
    binding_.anonymous = value.Scalar() == "true";
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Words(const std::string& key, const YAML::Node& where,
                                                 const YAML::Node& value) {
    if (value.IsScalar()) return std::vector<std::string>{value.Scalar()};
    std::vector<std::string> words;
    for (const YAML::Node& item : value) {
      if (!value.IsSequence() || !item.IsScalar()) {
        words.clear();
        break;
      }
      words.push_back(item.Scalar());
    }
    if (words.empty())
      return At(name_, where.Mark(), absl::StrCat(key, ": a word or a list of words was expected"));
    return words;
  }

  absl::Status ParseNumbers(
      const std::string& key, const YAML::Node& where, const YAML::Node& value,
      const std::function<absl::StatusOr<uint32_t>(const std::string&)>& number_of,
      std::vector<uint32_t>& out) {
    const auto words = Words(key, where, value);
    if (!words.ok()) return words.status();
    for (const std::string& word : *words) {
      const auto number = number_of(word);
      if (!number.ok())
        return At(name_, where.Mark(), absl::StrCat(key, ": ", number.status().message()));
      out.push_back(*number);
    }
    return absl::OkStatus();
  }

  absl::Status ParsePatterns(const std::string& key, const YAML::Node& where,
                             const YAML::Node& value, std::string (*fault_of)(const std::string&),
                             std::vector<std::string>& out) {
    const auto words = Words(key, where, value);
    if (!words.ok()) return words.status();
    for (const std::string& word : *words) {
      if (const std::string fault = fault_of(word); !fault.empty())
        return At(name_, where.Mark(), absl::StrCat(key, ": ", fault));
    }
    out = *words;
    return absl::OkStatus();
  }

  // What is right by itself and wrong together.
  absl::StatusOr<Binding> Checked(const YAML::Node& node, const std::set<std::string>& seen) const {
    const Binding& binding = binding_;
    if (binding.users.empty() && binding.groups.empty() && binding.certificates.empty() &&
        !binding.anonymous)
      return At(name_, node.Mark(),
                "nobody is named: users, groups, certificates or anonymous: true was expected");
    if (binding.role == Role::kVmm && (!binding.certificates.empty() || binding.anonymous))
      return At(name_, node.Mark(),
                "role vmm is for processes of this host: users and groups only were expected");
    if (seen.count("vms") > 0 && (binding.role == Role::kAdmin || binding.role == Role::kPeer))
      return At(name_, node.Mark(),
                absl::StrCat("vms: role ", NameOf(binding.role),
                             " is about the agent and not about VMs; leave vms out"));
    return binding;
  }

  const std::string& name_;
  const Accounts& accounts_;
  Binding binding_;
};

absl::StatusOr<Policy> ParseMap(const YAML::Node& file, const std::string& name,
                                const Accounts& accounts) {
  Policy policy;
  policy.source = name;
  bool seen = false;
  for (const auto& entry : file) {
    if (!entry.first.IsScalar() || entry.first.Scalar() != "bindings")
      return At(name, entry.first.Mark(),
                absl::StrCat(entry.first.IsScalar() ? absl::StrCat(entry.first.Scalar(), ": ") : "",
                             "no such key; bindings was expected"));
    if (std::exchange(seen, true))
      return At(name, entry.first.Mark(), "bindings: it is there twice");
    // "bindings: []" gives nothing to anybody.
    if (!entry.second.IsSequence())
      return At(name, entry.first.Mark(), "bindings: a list of bindings was expected");
    if (entry.second.size() > kMaxBindings)
      return At(name, entry.first.Mark(),
                absl::StrCat("bindings: at most ", kMaxBindings, " were expected"));
    for (const YAML::Node& node : entry.second) {
      auto binding = BindingParser(name, accounts).Parse(node);
      if (!binding.ok()) return binding.status();
      policy.bindings.push_back(*std::move(binding));
    }
  }
  return policy;
}

}  // namespace

absl::StatusOr<Policy> ParsePolicy(const std::string& text, const std::string& name,
                                   const Accounts& accounts) {
  std::string problem;
  const std::optional<YAML::Node> file = config::ParseYamlMap(text, name, problem);
  if (!file.has_value()) return absl::InvalidArgumentError(problem);
  if (file->size() == 0)
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":1: bindings was expected, and a list of them"));
  return ParseMap(*file, name, accounts);
}

}  // namespace tsc_handoff::auth
