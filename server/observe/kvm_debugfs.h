// Reads the TSCs of the host's VMs from KVM's directory in debugfs.
//
// VMs end while they are read; what is missing or cannot be read is left out, a vCPU without an
// offset too. debugfs is for root; where it is not mounted there is nothing.
//
// Threading: from any thread. No VM notices: nothing waits for a vCPU.
#ifndef TSC_HANDOFF_SERVER_OBSERVE_KVM_DEBUGFS_H_
#define TSC_HANDOFF_SERVER_OBSERVE_KVM_DEBUGFS_H_

#include <string>

#include "server/observe/tsc_view.h"

namespace tsc_handoff::observe {

inline constexpr char kKvmDebugfs[] = "/sys/kernel/debug/kvm";

HostView ReadHostView(const std::string& root);

// One VM's directory. Reads until it has read the same twice, three times at most.
VmView ReadVmView(const std::string& directory);

}  // namespace tsc_handoff::observe

#endif  // TSC_HANDOFF_SERVER_OBSERVE_KVM_DEBUGFS_H_
