#include "server/discovery/attach_rules.h"

#include <fnmatch.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/error.h"

namespace tsc_handoff::discovery {
namespace {

absl::Status Denied(const FoundVm& vm, const std::string& option, const std::string& why) {
  return Error(
      Reason::kAttachDenied,
      absl::StrCat("the agent may not attach to process ", vm.pid, ": ", why, " (", option, ")"),
      {{"pid", absl::StrCat(vm.pid)}, {"option", option}});
}

bool IsExecutable(const std::string& pattern, const std::string& path) {
  return fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME) == 0;
}

// "/a" holds "/a" and "/a/b", not "/ab".
bool Holds(absl::string_view group, absl::string_view cgroup) {
  absl::ConsumeSuffix(&group, "/");
  return absl::ConsumePrefix(&cgroup, group) && (cgroup.empty() || cgroup.front() == '/');
}

}  // namespace

std::vector<std::string> QemuExecutables() {
  return {"/usr/bin/qemu-system-*", "/usr/libexec/qemu-kvm", "/usr/bin/kvm"};
}

absl::Status CheckAttachPermitted(const AttachRules& rules, const FoundVm& vm) {
  if (!rules.attach) return Denied(vm, "--attach", "attaching is switched off");
  if (!rules.users.empty() &&
      std::find(rules.users.begin(), rules.users.end(), vm.uid) == rules.users.end()) {
    return Denied(vm, "--attach-user", absl::StrCat("it acts for user ", vm.uid));
  }
  const bool executable =
      std::any_of(rules.executables.begin(), rules.executables.end(),
                  [&](const std::string& pattern) { return IsExecutable(pattern, vm.executable); });
  if (!rules.executables.empty() && !executable) {
    return Denied(vm, "--attach-executable",
                  vm.executable.empty() ? "its executable may not be read"
                                        : absl::StrCat("it executes ", vm.executable));
  }
  const bool cgroup =
      std::any_of(rules.cgroups.begin(), rules.cgroups.end(),
                  [&](const std::string& group) { return Holds(group, vm.cgroup); });
  if (!rules.cgroups.empty() && !cgroup) {
    return Denied(
        vm, "--attach-cgroup",
        vm.cgroup.empty() ? "its cgroup is not known" : absl::StrCat("its cgroup is ", vm.cgroup));
  }
  return absl::OkStatus();
}

}  // namespace tsc_handoff::discovery
