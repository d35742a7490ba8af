// The part of tsc-agent's command line about VMs that nobody registered: whether they are looked
// at, and which may be attached to.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_AGENT_VM_OPTIONS_H_
#define TSC_HANDOFF_SERVER_AGENT_VM_OPTIONS_H_

#include <string>
#include <vector>

#include "server/discovery/attach_rules.h"

namespace CLI {
class App;
}

namespace tsc_handoff::agent {

struct VmOptions {
  // Its executables are those of QEMU unless others were given.
  discovery::AttachRules rules = {.attach = false, .executables = discovery::QemuExecutables()};
  bool allow_seccomp = false;
  std::string vm_id_pattern;  // a regular expression that VmIdRule takes; empty: none
  bool observe = true;

  // Whether there is anything to look for VMs for.
  bool look_for_vms() const { return rules.attach || observe; }
};

// `out` outlives the parsing.
void AddVmOptions(CLI::App& app, VmOptions& out);

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_VM_OPTIONS_H_
