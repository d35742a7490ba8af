// Which vCPU belongs to which VM, when one process has several.
//
// A process's descriptors say "kvm-vm" and "kvm-vcpu:N" and not of which VM the vCPU is. debugfs
// has a directory PID-FD per VM, named after the descriptor that made it, with one vcpuN for each
// of its vCPUs. That decides where an id occurs in one of the process's VMs only. Where it does not
// decide, nothing is guessed: writing the TSC of another VM's vCPU is worse than not to know the
// VM.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_DISCOVERY_VCPU_ASSIGNMENT_H_
#define TSC_HANDOFF_SERVER_DISCOVERY_VCPU_ASSIGNMENT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tsc_handoff::discovery {

struct VcpuDescriptor {
  uint32_t id = 0;
  int fd = -1;
  bool operator==(const VcpuDescriptor&) const = default;
};

// A VM as debugfs knows it.
struct DebugfsVm {
  int fd = -1;  // from PID-FD
  std::vector<uint32_t> vcpu_ids;
};

struct VmDescriptors {
  int vm_fd = -1;
  std::vector<VcpuDescriptor> vcpus;  // ascending ids
  // Why its vCPUs cannot be told, as a sentence; empty when they are known.
  std::string undecided;
  bool operator==(const VmDescriptors&) const = default;
};

// `debugfs` is empty where it is not mounted. The result has one entry per VM descriptor, in
// ascending order.
std::vector<VmDescriptors> AssignVcpus(std::vector<int> vm_fds, std::vector<VcpuDescriptor> vcpus,
                                       const std::vector<DebugfsVm>& debugfs);

}  // namespace tsc_handoff::discovery

#endif  // TSC_HANDOFF_SERVER_DISCOVERY_VCPU_ASSIGNMENT_H_
