#include "server/auth/pattern.h"

#include <fnmatch.h>

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::auth {
namespace {

constexpr size_t kLongest = 512;
constexpr char kDns[] = "dns:";
constexpr char kWildcards[] = "*?[";

std::string FaultOfAny(const std::string& pattern) {
  if (pattern.empty()) return "a pattern is empty";
  if (pattern.size() > kLongest)
    return absl::StrCat("a pattern has at most ", kLongest, " characters");
  for (const char c : pattern) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c)) || c == '\\')
      return absl::StrCat("\"", absl::StrReplaceAll(pattern, {{"\n", " "}}),
                          "\" has a character that no pattern has: a space, a backslash, or one "
                          "that is not printed");
  }
  // "[]]" and "[!]]" hold a bracket each.
  for (size_t open = pattern.find('['); open != std::string::npos;) {
    size_t first = open + 1;
    if (first < pattern.size() && (pattern[first] == '!' || pattern[first] == '^')) ++first;
    const size_t close = pattern.find(']', first + 1);
    if (close == std::string::npos) return absl::StrCat("\"", pattern, "\" has a [ without its ]");
    open = pattern.find('[', close + 1);
  }
  return "";
}

// So that FNM_PATHNAME keeps a '*' within a label.
std::string LabelsAsPath(const std::string& name) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{".", "/"}});
}

// To fnmatch a name ends with a NUL, so "spiffe://example.org/a\0b" would be
// "spiffe://example.org/a".
bool Matches(const std::string& pattern, const std::string& name, int flags) {
  return !absl::StrContains(name, '\0') && fnmatch(pattern.c_str(), name.c_str(), flags) == 0;
}

}  // namespace

std::string FaultOfVmPattern(const std::string& pattern) {
  if (std::string fault = FaultOfAny(pattern); !fault.empty()) return fault;
  for (const char c : pattern) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        std::strchr("._:-*?[]!^", c) == nullptr)
      return absl::StrCat("\"", pattern, "\" matches no VM: their ids have [A-Za-z0-9._:-] only");
  }
  return "";
}

std::string FaultOfCertificatePattern(const std::string& pattern) {
  if (std::string fault = FaultOfAny(pattern); !fault.empty()) return fault;
  if (absl::StartsWith(pattern, kDns)) {
    return pattern.size() > std::strlen(kDns) ? "" : "dns: has no name after it";
  }
  const size_t scheme = pattern.find("://");
  if (scheme == std::string::npos || scheme == 0)
    return absl::StrCat("\"", pattern,
                        "\" is neither a URI such as spiffe://example.org/orchestrator nor "
                        "dns:NAME");
  const size_t path = pattern.find('/', scheme + 3);
  // Whoever signs for another domain must not come in by this one's pattern.
  if (pattern.substr(0, path).find_first_of(kWildcards) != std::string::npos)
    return absl::StrCat("\"", pattern, "\" leaves open which scheme or domain: spell it out");
  return "";
}

bool MatchesVm(const std::string& pattern, const std::string& vm_id) {
  return Matches(pattern, vm_id, FNM_NOESCAPE);
}

bool MatchesUri(const std::string& pattern, const std::string& uri) {
  return !absl::StartsWith(pattern, kDns) && Matches(pattern, uri, FNM_NOESCAPE | FNM_PATHNAME);
}

bool MatchesDns(const std::string& pattern, const std::string& dns) {
  return absl::StartsWith(pattern, kDns) && Matches(LabelsAsPath(pattern.substr(std::strlen(kDns))),
                                                    LabelsAsPath(dns), FNM_NOESCAPE | FNM_PATHNAME);
}

}  // namespace tsc_handoff::auth
