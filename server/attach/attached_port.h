// AttachedPort: reaches a VM whose VMM knows nothing of the agent, by running capture and apply on
// one of its threads (injection.h). The other threads go on meanwhile, and the one that is borrowed
// is stopped once per call.
//
// Such a VMM takes no permit: SendPermit does nothing and Hold says nothing. What keeps the VM
// paused is whoever drives the VMM. A vCPU that executes is noticed before anything is injected;
// one that begins to execute in the middle is taken out of KVM_RUN for the time that the operation
// needs to undo what it has done. Both are kVmRunning.
//
// A VMM may close a descriptor, and its number may come to mean another VM's. Where the descriptors
// are held (HeldDescriptors), each operation first compares them with the numbers.
//
// Besides VmPort's errors: kAttachRefused with metadata `refusal` when the VMM is not to be
// attached to (injection.h).
//
// Threading: see VmPort. Each call makes a thread of its own, which ends with it.
#ifndef TSC_HANDOFF_SERVER_ATTACH_ATTACHED_PORT_H_
#define TSC_HANDOFF_SERVER_ATTACH_ATTACHED_PORT_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/attach/held_descriptors.h"
#include "server/attach/refusal.h"
#include "server/attach/target.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::attach {

// A VM as its VMM sees it: the numbers are descriptors of the VMM.
struct AttachedVm {
  std::string vm_id;
  int vm_fd = -1;
  std::vector<tsc_kvm_vcpu> vcpus;  // ascending ids, at most TSC_KVM_MAX_VCPUS
};

struct AttachedPortOptions {
  AttachPolicy policy;
  // OPTIONAL. What the VM's numbers have to mean.
  std::shared_ptr<const HeldDescriptors> held;
  // OPTIONAL. Called before each injection, with the thread that will be borrowed.
  std::function<void(pid_t tid)> before_injection;
  pid_t tid =
      0;  // the thread to borrow; 0: the process's first one that is not to be refused as ended
  uint64_t ops = 0;  // for tests, see attach_kvm_job
  // For tests on machines that are too busy to run a job in time.
  absl::Duration timeout = port::kPortTimeout;
};

class AttachedPort final : public port::VmPort {
 public:
  AttachedPort(Target target, AttachedVm vm, AttachedPortOptions options);

  absl::StatusOr<port::Capture> ReadAll(port::Hold hold) override;
  absl::StatusOr<port::Applied> WriteAll(const port::ApplyOrder& order, port::Hold hold) override;
  void SendPermit(const port::Permit& permit) override;
  absl::StatusOr<bool> IsPaused() override;

  // How long the last ReadAll or WriteAll kept the VMM's thread from its work.
  absl::Duration last_stop() const { return last_stop_; }
  // What the last of these that was run said of its end; all 0 when it was not.
  const tsc_kvm_fault& last_fault() const { return last_fault_; }

 private:
  // Whether the VM is still the one that was found.
  absl::Status CheckDescriptors() const;
  // Runs a capture or apply job; returns it as it came back when its outcome is TSC_KVM_OK.
  absl::StatusOr<std::vector<std::byte>> Run(std::vector<std::byte> job);
  absl::StatusOr<std::vector<tsc_vcpu_state>> States(const std::vector<std::byte>& job,
                                                     size_t offset) const;
  absl::StatusOr<std::vector<pid_t>> Candidates() const;

  const Target target_;
  const AttachedVm vm_;
  const AttachedPortOptions options_;
  std::vector<int> vcpu_fds_;
  absl::Duration last_stop_;
  tsc_kvm_fault last_fault_ = {};
};

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_ATTACHED_PORT_H_
