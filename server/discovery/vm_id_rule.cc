#include "server/discovery/vm_id_rule.h"

#include <re2/re2.h>

#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff::discovery {
namespace {

constexpr size_t kMaxIdSize = 128;

std::optional<std::string> IfValid(std::string id) {
  if (id.empty() || id.size() > kMaxIdSize) return std::nullopt;
  for (char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && std::strchr("._:-", c) == nullptr)
      return std::nullopt;
  }
  return id;
}

// The comma-separated parts of one of QEMU's option values, in which ",," is a comma.
std::vector<std::string> OptionParts(absl::string_view value) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] != ',') {
      parts.back() += value[i];
    } else if (i + 1 < value.size() && value[i + 1] == ',') {
      parts.back() += ',';
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

// "guest=X" anywhere, or a first part without a key. QEMU takes the last one that is given.
std::string GuestName(absl::string_view value) {
  const std::vector<std::string> parts = OptionParts(value);
  std::string name = parts[0].find('=') == std::string::npos ? parts[0] : "";
  for (const std::string& part : parts) {
    if (part.rfind("guest=", 0) == 0) name = part.substr(std::strlen("guest="));
  }
  return name;
}

}  // namespace

std::vector<std::string> SplitCommandLine(absl::string_view cmdline) {
  if (!cmdline.empty() && cmdline.back() == '\0') cmdline.remove_suffix(1);
  if (cmdline.empty()) return {};
  return absl::StrSplit(cmdline, '\0');
}

std::optional<std::string> QemuVmId(const std::vector<std::string>& words) {
  std::optional<std::string> name;
  std::optional<std::string> uuid;
  for (size_t i = 1; i + 1 < words.size(); ++i) {
    if (words[i] == "-name" || words[i] == "--name") {
      name = IfValid(GuestName(words[++i]));
    } else if (words[i] == "-uuid" || words[i] == "--uuid") {
      uuid = IfValid(words[++i]);
    }
  }
  return name ? name : uuid;
}

VmIdRule::VmIdRule(std::unique_ptr<re2::RE2> pattern) : pattern_(std::move(pattern)) {}
VmIdRule::VmIdRule(VmIdRule&&) noexcept = default;
VmIdRule::~VmIdRule() = default;

absl::StatusOr<VmIdRule> VmIdRule::Create(const std::string& pattern) {
  if (pattern.empty()) return VmIdRule(nullptr);
  auto compiled = std::make_unique<re2::RE2>(pattern, re2::RE2::Quiet);
  if (!compiled->ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", pattern, "\" is not a regular expression: ", compiled->error()));
  }
  if (compiled->NumberOfCapturingGroups() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", pattern, "\" has no group in parentheses, which would be the VM id"));
  }
  return VmIdRule(std::move(compiled));
}

std::optional<std::string> VmIdRule::VmIdOf(const std::vector<std::string>& words) const {
  if (pattern_ != nullptr) {
    std::string id;
    if (re2::RE2::PartialMatch(absl::StrJoin(words, " "), *pattern_, &id))
      return IfValid(std::move(id));
  }
  return QemuVmId(words);
}

}  // namespace tsc_handoff::discovery
