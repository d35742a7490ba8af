// VmPort: how the agent reaches one VM's TSCs. The port runs KVM's ioctls in the address space that
// made the VM, wherever that is; one call is one round trip, whatever the number of vCPUs.
//
// Errors carry a Reason (server/base/error.h):
//   - kVmRunning: a vCPU is executing, or the VMM says that the VM runs. Nothing was written; a
//   vCPU
//     that began to execute in the middle of a write gets its old values when it stops.
//   - kVmmGone: the VMM died, hangs or broke the protocol.
//   - kKvmIoctlFailed, kTscProtected, kTscAdjustUnsupported, kVcpuSetMismatch: the operation failed
//     and everything is as before.
//   - kRollbackFailed: the operation failed and restoring did too.
//
// The permit to run: the VMM resumes the VM only with the agent's permit, which it holds until it
// is told otherwise. SendPermit grants or denies it; Hold::kYes takes it together with an
// operation.
//
// Threading: a port serves one call at a time; the caller serialises (registry::VmLease). Calls
// block, at most for kPortTimeout plus kPortGrace. SendPermit is the exception: thread-safe, also
// during a call, and it never blocks.
#ifndef TSC_HANDOFF_SERVER_PORT_VM_PORT_H_
#define TSC_HANDOFF_SERVER_PORT_VM_PORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/vmm/tsc_kvm.h"

namespace tsc_handoff::port {

// A vCPU ioctl that has not returned after this long means that the vCPU is executing: VM_RUNNING.
inline constexpr absl::Duration kPortTimeout = absl::Milliseconds(700);
// A VMM that has said nothing for this long beyond the timeout hangs: VMM_GONE.
inline constexpr absl::Duration kPortGrace = absl::Milliseconds(250);

// What KVM says of a paused VM. Offsets are constants while the VM is paused, so no time belongs to
// them.
struct Capture {
  std::vector<tsc_vcpu_state> vcpus;  // ascending ids
  tsc_kvmclock kvmclock;
};

// What to write. `vcpus` are in ascending order of ids and exactly those of the VM.
struct ApplyOrder {
  tsc_kvm_target target;  // vcpu_count is filled in by the port
  std::vector<tsc_vcpu_state> vcpus;
};

// What was there before, and what the kernel gave back afterwards.
struct Applied {
  std::vector<tsc_vcpu_state> before;
  std::vector<tsc_vcpu_state> after;
  tsc_kvmclock_result kvmclock;
};

// Whether the VM may run on this host, as the agent tells its VMM.
struct Permit {
  bool granted = false;
  uint64_t epoch = 0;  // the VM's highest epoch that this agent knows; 0: none
  std::string reason;  // why not, as the end of "the VM may not run here: ..."; empty when granted
};

// Whether the VMM gives its permit to run up in the same step in which it starts the operation, so
// that the VM cannot be resumed between the two. From then on, whatever becomes of the operation,
// the VM is not resumed before a later SendPermit grants it. A call that failed may or may not have
// come so far: send the permit anew.
enum class Hold { kNo, kYes };

class VmPort {
 public:
  virtual ~VmPort() = default;

  // Reads every vCPU and kvmclock. REQUIRES: no other call on this port meanwhile.
  virtual absl::StatusOr<Capture> ReadAll(Hold hold) = 0;

  // Writes and reads back; all or nothing. REQUIRES: no other call on this port meanwhile.
  virtual absl::StatusOr<Applied> WriteAll(const ApplyOrder& order, Hold hold) = 0;

  // Tells the VMM whether the VM may run. Takes effect in the order in which calls and permits are
  // sent: after the start of an operation that was sent before, and before one that is sent later.
  // There is no answer. A VMM that does not take it is disconnected, and hears at its next
  // registration how things are.
  virtual void SendPermit(const Permit& permit) = 0;

  // Whether the VMM says that the VM is paused. REQUIRES: no other call on this port meanwhile.
  virtual absl::StatusOr<bool> IsPaused() = 0;
};

}  // namespace tsc_handoff::port

#endif  // TSC_HANDOFF_SERVER_PORT_VM_PORT_H_
