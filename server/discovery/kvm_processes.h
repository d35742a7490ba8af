// Finds the processes of a host that have KVM VMs, through /proc.
//
// What ends while it is looked at is left out; what this process may not look at is left out too. A
// process is named by its pid and its start time, which together never come again.
//
// Threading: from any thread; blocks for as long as /proc takes.
#ifndef TSC_HANDOFF_SERVER_DISCOVERY_KVM_PROCESSES_H_
#define TSC_HANDOFF_SERVER_DISCOVERY_KVM_PROCESSES_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/discovery/vcpu_assignment.h"
#include "server/discovery/vm_id_rule.h"

namespace tsc_handoff::discovery {

// What a descriptor's link says: a VM, a vCPU with an id, or anything else.
struct KvmDescriptor {
  enum class Kind { kOther, kVm, kVcpu } kind = Kind::kOther;
  uint32_t vcpu_id = 0;
};
KvmDescriptor ParseDescriptor(absl::string_view link);

// Field 22 of /proc/PID/stat, in clock ticks since boot. The command's name in it may hold
// anything.
std::optional<uint64_t> ParseStartTime(absl::string_view stat);

struct FoundVm {
  pid_t pid = 0;
  uint64_t start_time_ticks = 0;  // the process's
  uint32_t uid = 0;
  std::string executable;  // empty where it may not be read
  std::string vm_id;       // empty: the command line gives none
  VmDescriptors descriptors;
};

struct Roots {
  std::string proc = "/proc";
  std::string debugfs_kvm = "/sys/kernel/debug/kvm";
};

// All VMs, in ascending order of pid and descriptor. The VMs of a process with several have one id
// from its command line; so that each has its own, the descriptor is appended (":10").
std::vector<FoundVm> FindVms(const Roots& roots, const VmIdRule& rule);

}  // namespace tsc_handoff::discovery

#endif  // TSC_HANDOFF_SERVER_DISCOVERY_KVM_PROCESSES_H_
