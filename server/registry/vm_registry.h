// The VMs of this host that the agent can reach, by id. Owns their descriptors and ports.
//
// Threading: VmRegistry and RegisteredVm may be used from any thread. A VM's port is reached
// through a VmLease only, of which there is at most one at a time; a removed VM stays alive as long
// as somebody holds it.
#ifndef TSC_HANDOFF_SERVER_REGISTRY_VM_REGISTRY_H_
#define TSC_HANDOFF_SERVER_REGISTRY_VM_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::registry {

enum class PortKind { kInProcess, kCooperative };
enum class RunState { kUnknown, kPaused, kRunning };

struct VmIdentity {
  std::string vm_id;
  std::vector<uint32_t> vcpu_ids;  // ascending
  int32_t vmm_pid = 0;             // 0: this process
  uint32_t vmm_uid = 0;
  PortKind port = PortKind::kCooperative;
  int64_t registered_at_ns = 0;  // CLOCK_REALTIME
};

class RegisteredVm {
 public:
  // `descriptors` are the VM's and the vCPUs', held so that the VM's kernel objects live as long as
  // this.
  RegisteredVm(VmIdentity identity, std::unique_ptr<port::VmPort> port,
               std::vector<UniqueFd> descriptors)
      : identity_(std::move(identity)),
        port_(std::move(port)),
        descriptors_(std::move(descriptors)) {}

  const VmIdentity& identity() const { return identity_; }
  // What was last seen.
  RunState run_state() const { return run_state_.load(std::memory_order_relaxed); }
  void set_run_state(RunState state) { run_state_.store(state, std::memory_order_relaxed); }

 private:
  friend class VmLease;
  const VmIdentity identity_;
  const std::unique_ptr<port::VmPort> port_;
  const std::vector<UniqueFd> descriptors_;
  std::atomic<RunState> run_state_{RunState::kUnknown};
  std::mutex in_use_;
};

// The right to operate on one VM.
class VmLease {
 public:
  // nullopt-like: !held() when somebody else has it.
  explicit VmLease(std::shared_ptr<RegisteredVm> vm)
      : vm_(std::move(vm)), lock_(vm_->in_use_, std::try_to_lock) {}

  bool held() const { return lock_.owns_lock(); }
  RegisteredVm& vm() const { return *vm_; }
  // REQUIRES: held().
  port::VmPort& port() const { return *vm_->port_; }

 private:
  std::shared_ptr<RegisteredVm> vm_;  // outlives lock_
  std::unique_lock<std::mutex> lock_;
};

class VmRegistry {
 public:
  explicit VmRegistry(size_t max_vms) : max_vms_(max_vms) {}

  // `announce` tells the VMM, when nothing else can go wrong and before anybody can find the VM; it
  // must be quick. Errors: ALREADY_EXISTS when the id is taken (by whom stands in the message),
  // kLimitExceeded, and those of `announce`.
  absl::Status Add(std::shared_ptr<RegisteredVm> vm, const std::function<absl::Status()>& announce);

  // Removes exactly this VM; a later one of the same id is not touched.
  void Remove(const RegisteredVm& vm);

  // Errors: kVmNotFound.
  absl::StatusOr<std::shared_ptr<RegisteredVm>> Find(const std::string& vm_id) const;

  // Errors: kVmNotFound, kVmBusy.
  absl::StatusOr<VmLease> Lease(const std::string& vm_id) const;

  // At most `limit` VMs in order of their ids, after `after` (empty: from the first).
  std::vector<std::shared_ptr<RegisteredVm>> List(const std::string& after, size_t limit) const;

  size_t size() const;

 private:
  const size_t max_vms_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<RegisteredVm>> vms_;  // guarded by mutex_
};

}  // namespace tsc_handoff::registry

#endif  // TSC_HANDOFF_SERVER_REGISTRY_VM_REGISTRY_H_
