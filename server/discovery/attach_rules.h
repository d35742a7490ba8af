// Which VMMs the operator lets the agent attach to: by user, executable and control group.
//
// A kind of which nothing is named permits all; of the kinds that are named each must permit. The
// kernel vouches for user and cgroup. A path is that of the process's own file system, which
// whoever made a container chose: it keeps mistakes out, not enemies.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_DISCOVERY_ATTACH_RULES_H_
#define TSC_HANDOFF_SERVER_DISCOVERY_ATTACH_RULES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/discovery/kvm_processes.h"

namespace tsc_handoff::discovery {

struct AttachRules {
  bool attach = false;
  std::vector<uint32_t> users = {};
  // Absolute paths in which '*', '?' and '[...]' stand for characters but '/'.
  std::vector<std::string> executables = {};
  std::vector<std::string> cgroups = {};  // the group or one above it, "/machine.slice"
};

// What is attached to unless somebody says otherwise: what has been tested.
std::vector<std::string> QemuExecutables();

// OK, or kAttachDenied with metadata `option`, the one that would have to be another.
absl::Status CheckAttachPermitted(const AttachRules& rules, const FoundVm& vm);

}  // namespace tsc_handoff::discovery

#endif  // TSC_HANDOFF_SERVER_DISCOVERY_ATTACH_RULES_H_
