// Which VM id a process's command line gives.
//
// QEMU's own options come first, also as libvirt writes them: `-name guest=X,debug-threads=on`,
// `-name X`, and without a name `-uuid U`. For other VMMs a rule is configured: a regular
// expression (RE2) over the command line, whose words are joined by single spaces; its first group
// is the id.
//
// An id has the form that every VM id has: 1 to 128 of letters, digits, '.', '_', ':' and '-'.
// Anything else is no id.
//
// Threading: immutable after Create; any thread.
#ifndef TSC_HANDOFF_SERVER_DISCOVERY_VM_ID_RULE_H_
#define TSC_HANDOFF_SERVER_DISCOVERY_VM_ID_RULE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace re2 {
class RE2;
}

namespace tsc_handoff::discovery {

// /proc/PID/cmdline as its words.
std::vector<std::string> SplitCommandLine(absl::string_view cmdline);

// By QEMU's options; nullopt when neither gives an id.
std::optional<std::string> QemuVmId(const std::vector<std::string>& words);

class VmIdRule {
 public:
  // `pattern` is empty: only QEMU's options count. Errors (without a Reason): a sentence for who
  // configured it.
  static absl::StatusOr<VmIdRule> Create(const std::string& pattern);
  VmIdRule(VmIdRule&&) noexcept;
  ~VmIdRule();

  // The configured rule first, where it matches: it was written for this host.
  std::optional<std::string> VmIdOf(const std::vector<std::string>& words) const;

 private:
  explicit VmIdRule(std::unique_ptr<re2::RE2> pattern);
  std::unique_ptr<re2::RE2> pattern_;  // null: none
};

}  // namespace tsc_handoff::discovery

#endif  // TSC_HANDOFF_SERVER_DISCOVERY_VM_ID_RULE_H_
