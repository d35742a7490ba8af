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
  uint32_t uid = 0;               // with which it acts (effective)
  std::string executable;         // empty where it may not be read
  std::string cgroup;  // of the unified hierarchy, else of systemd's; empty where there is none
  std::string vm_id;   // empty: the command line gives none
  VmDescriptors descriptors;
  bool operator==(const FoundVm&) const = default;
};

struct Roots {
  std::string proc = "/proc";
  std::string debugfs_kvm = "/sys/kernel/debug/kvm";
};

// All VMs, in ascending order of pid and descriptor. The VMs of a process with several have one id
// from its command line; so that each has its own, the descriptor is appended (":10").
std::vector<FoundVm> FindVms(const Roots& roots, const VmIdRule& rule);
// Those of these processes only.
std::vector<FoundVm> FindVmsOf(const Roots& roots, const std::vector<pid_t>& pids,
                               const VmIdRule& rule);

// The process of which this is a thread, which may be its first; nullopt when there is none.
std::optional<pid_t> ProcessOf(const Roots& roots, pid_t tid);

// The processes that have VMs, as debugfs says, ascending: a look that costs little, where /proc
// has to be searched otherwise. nullopt where debugfs cannot be read, or names a VM whose process
// it does not tell: VMs are named there after the *thread* that made them, which may have ended.
std::optional<std::vector<pid_t>> ProcessesInDebugfs(const Roots& roots);

}  // namespace tsc_handoff::discovery

#endif  // TSC_HANDOFF_SERVER_DISCOVERY_KVM_PROCESSES_H_
