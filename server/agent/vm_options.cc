#include "server/agent/vm_options.h"

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "server/base/accounts.h"
#include "server/discovery/vm_id_rule.h"

namespace tsc_handoff::agent {
namespace {

constexpr char kGroup[] = "VMs whose VMMs know nothing of the agent";

void SetUsers(const std::vector<std::string>& texts, VmOptions& out) {
  out.rules.users.clear();
  for (const std::string& text : texts) {
    const auto uid = ParseUser(text);
    if (!uid.ok()) throw CLI::ValidationError("--attach-user", std::string(uid.status().message()));
    out.rules.users.push_back(*uid);
  }
}

void CheckPaths(const std::string& flag, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (!absl::StartsWith(text, "/"))
      throw CLI::ValidationError(flag, "\"" + text + "\" does not begin with /");
  }
}

}  // namespace

void AddVmOptions(CLI::App& app, VmOptions& out) {
  app.add_option_function<std::string>(
         "--attach", [&out](const std::string& text) { out.rules.attach = text == "on"; },
         "Read and write the TSCs of VMs whose VMMs know nothing of the agent, by ptrace; needs "
         "CAP_SYS_PTRACE, and is logged each time [off]")
      ->check(CLI::IsMember({"on", "off"}).description(""))
      ->type_name("on|off")
      ->group(kGroup);
  app.add_option_function<std::vector<std::string>>(
         "--attach-user", [&out](const std::vector<std::string>& texts) { SetUsers(texts, out); },
         "Attach only to processes of this user, a name or a number; may be repeated; when it is "
         "not given, of any user")
      ->type_name("USER")
      ->group(kGroup);
  app.add_option_function<std::vector<std::string>>(
         "--attach-executable",
         [&out](const std::vector<std::string>& texts) {
           CheckPaths("--attach-executable", texts);
           out.rules.executables = texts;
         },
         "Attach only to processes that execute this file; *, ? and [...] stand for characters but "
         "/; may be repeated; when it is not given, QEMU's: /usr/bin/qemu-system-*, "
         "/usr/libexec/qemu-kvm, /usr/bin/kvm")
      ->type_name("PATH")
      ->group(kGroup);
  app.add_option_function<std::vector<std::string>>(
         "--attach-cgroup",
         [&out](const std::vector<std::string>& texts) {
           CheckPaths("--attach-cgroup", texts);
           out.rules.cgroups = texts;
         },
         "Attach only to processes in this control group, such as /machine.slice, or below it; may "
         "be repeated; when it is not given, in any")
      ->type_name("PATH")
      ->group(kGroup);
  app.add_flag("--attach-allow-seccomp", out.allow_seccomp,
               "Attach also to processes with a seccomp filter (QEMU's -sandbox on permits what is "
               "done there; another filter may kill its process)")
      ->group(kGroup);
  app.add_option_function<std::string>(
         "--vm-id-pattern",
         [&out](const std::string& text) {
           const auto rule = discovery::VmIdRule::Create(text);
           if (!rule.ok())
             throw CLI::ValidationError("--vm-id-pattern", std::string(rule.status().message()));
           out.vm_id_pattern = text;
         },
         "Regular expression (RE2) over a VMM's command line; its first group is the VM's id; "
         "where "
         "it does not match, QEMU's -name is, else its -uuid")
      ->type_name("REGEX")
      ->group(kGroup);
  app.add_option_function<std::string>(
         "--observe", [&out](const std::string& text) { out.observe = text != "off"; },
         "Look at the TSCs of all VMs in debugfs, where it is mounted, without touching them "
         "[auto]")
      ->check(CLI::IsMember({"auto", "off"}).description(""))
      ->type_name("auto|off")
      ->group(kGroup);
}

}  // namespace tsc_handoff::agent
