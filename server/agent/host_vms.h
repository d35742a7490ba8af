// HostVms: the VMs of this host that nobody has to register: finds them, looks at their TSCs from
// outside, and opens a port to one. linux_host_vms.h is the real one.
//
// Threading: Find, Observe, SeenPaused, WatchEndsOf and Wait are one thread's; Attach is any
// thread's, and so is Wake.
#ifndef TSC_HANDOFF_SERVER_AGENT_HOST_VMS_H_
#define TSC_HANDOFF_SERVER_AGENT_HOST_VMS_H_

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/discovery/kvm_processes.h"
#include "server/observe/tsc_view.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::agent {

class HostVms {
 public:
  virtual ~HostVms() = default;

  virtual std::vector<discovery::FoundVm> Find() = 0;
  // Under the processes that have them, whichever of their threads made them. Empty where the
  // host's VMs cannot be looked at.
  virtual observe::HostView Observe() = 0;

  // Whether the VM is paused, as far as can be seen without touching it; nullopt where it cannot.
  virtual std::optional<bool> SeenPaused(const discovery::FoundVm& vm) = 0;

  // A port to the VM, whose id is for messages and logs. Errors: kAttachDenied, kAttachRefused,
  // kVmAmbiguous, kLimitExceeded: why there is none; kVmmGone.
  virtual absl::StatusOr<std::unique_ptr<port::VmPort>> Attach(const discovery::FoundVm& vm,
                                                               const std::string& vm_id) = 0;

  // Whether Wait returns when a VM starts; where it does not, somebody has to look now and then.
  virtual bool TellsOfStarts() const = 0;
  // Whose ends Wait returns at, from now on.
  virtual void WatchEndsOf(const std::vector<discovery::FoundVm>& vms) = 0;
  // Waits until a VM may have started, one of those watched has ended, or Wake was called; true
  // then. False when nothing came for this long.
  virtual bool Wait(std::chrono::milliseconds at_most) = 0;
  virtual void Wake() = 0;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_HOST_VMS_H_
