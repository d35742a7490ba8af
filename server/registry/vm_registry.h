// The VMs of this host, by id: those that the agent can reach, with their descriptors and ports,
// and those that it only sees, with the reason why.
//
// A VM is registered by its VMM, or was found on this host. A VMM that speaks for itself wins: what
// was found gives its id up.
//
// Threading: VmRegistry and RegisteredVm may be used from any thread. A VM's port is reached
// through a VmLease only, of which there is at most one at a time, but for its permit; a removed VM
// stays alive as long as somebody holds it.
#ifndef TSC_HANDOFF_SERVER_REGISTRY_VM_REGISTRY_H_
#define TSC_HANDOFF_SERVER_REGISTRY_VM_REGISTRY_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/unique_fd.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::registry {

enum class PortKind { kInProcess, kCooperative, kAttached, kNone };

// Whether the VM was found, rather than registered by its VMM.
constexpr bool WasFound(PortKind port) {
  return port == PortKind::kAttached || port == PortKind::kNone;
}

enum class RunState { kUnknown, kPaused, kRunning };

struct VmIdentity {
  std::string vm_id;
  std::vector<uint32_t> vcpu_ids;  // ascending
  int32_t vmm_pid = 0;             // 0: this process
  uint32_t vmm_uid = 0;
  PortKind port = PortKind::kCooperative;
  int64_t registered_at_ns = 0;  // CLOCK_REALTIME
  // What the VMM said when it registered.
  bool awaits_handoff = false;  // a destination: it may run only when a handoff has arrived
  std::string vmm_instance;     // 16 bytes that no other session has, the same when it
                                // reconnects
  bool running_at_registration = false;  // with a permit of before, or without one
  // The VM's descriptor in the VMM, where that is known; -1 otherwise.
  int32_t vmm_vm_fd = -1;
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
  // One that is only seen. `unreachable` is why, and carries a Reason.
  RegisteredVm(VmIdentity identity, absl::Status unreachable)
      : identity_(std::move(identity)), unreachable_(std::move(unreachable)) {}

  const VmIdentity& identity() const { return identity_; }
  // What was last seen.
  RunState run_state() const { return run_state_.load(std::memory_order_relaxed); }
  void set_run_state(RunState state) { run_state_.store(state, std::memory_order_relaxed); }

  // OK when it can be reached.
  const absl::Status& unreachable() const { return unreachable_; }

  // Needs no lease; see port::VmPort.
  void SendPermit(const port::Permit& permit) {
    if (port_ != nullptr) port_->SendPermit(permit);
  }

  // Beginnings and ends of writes to the VM's TSCs by this agent: the same number at two instants
  // means that nothing was written between them.
  uint64_t writes() const { return writes_.load(); }

 private:
  friend class VmLease;
  friend class WriteNote;
  const VmIdentity identity_;
  const absl::Status unreachable_;
  const std::unique_ptr<port::VmPort> port_;  // null when it is not OK
  const std::vector<UniqueFd> descriptors_;
  std::atomic<RunState> run_state_{RunState::kUnknown};
  std::atomic<uint64_t> writes_{0};

  std::mutex use_mutex_;
  std::condition_variable released_;
  enum class Use { kNone, kGlance, kOperation } use_ = Use::kNone;  // guarded by use_mutex_
};

// Lives for as long as a write to the VM's TSCs may be under way; see RegisteredVm::writes.
class WriteNote {
 public:
  explicit WriteNote(RegisteredVm& vm) : vm_(vm) { ++vm_.writes_; }
  ~WriteNote() { ++vm_.writes_; }
  WriteNote(const WriteNote&) = delete;
  WriteNote& operator=(const WriteNote&) = delete;

 private:
  RegisteredVm& vm_;
};

// The right to use one VM's port, alone.
class VmLease {
 public:
  // A look whether the VM runs. !held() when somebody uses it: who does learns that himself; nor
  // when the VM cannot be reached.
  static VmLease Glance(std::shared_ptr<RegisteredVm> vm);
  // Anything else. REQUIRES: the VM can be reached. Waits up to `patience` for a glance to end, so
  // that nobody's looking on makes a call fail; !held() when somebody else operates on the VM.
  static VmLease Operate(std::shared_ptr<RegisteredVm> vm, absl::Duration patience);

  VmLease(VmLease&&) = default;
  VmLease& operator=(VmLease&&) = delete;
  ~VmLease();

  bool held() const { return vm_ != nullptr; }
  // REQUIRES: held(), for both.
  RegisteredVm& vm() const { return *vm_; }
  port::VmPort& port() const { return *vm_->port_; }

 private:
  explicit VmLease(std::shared_ptr<RegisteredVm> vm) : vm_(std::move(vm)) {}

  std::shared_ptr<RegisteredVm> vm_;  // null: not held
};

class VmRegistry {
 public:
  struct Limits {
    size_t max_vms;
    size_t max_vcpus = SIZE_MAX;  // of a VM
  };

  // `patience`: see VmLease::Operate. A look takes some ten microseconds, more when its VMM hangs.
  explicit VmRegistry(const Limits& limits, absl::Duration patience = absl::Milliseconds(500))
      : limits_(limits), patience_(patience) {}
  explicit VmRegistry(size_t max_vms, absl::Duration patience = absl::Milliseconds(500))
      : VmRegistry(Limits{.max_vms = max_vms}, patience) {}

  // `announce` tells the VMM, when nothing else can go wrong and before anybody can find the VM; it
  // must be quick. Takes the place of a VM of that id that was found, if it was not found itself.
  // Errors: ALREADY_EXISTS when the id is taken (by whom stands in the message), kLimitExceeded,
  // and those of `announce`.
  absl::Status Add(std::shared_ptr<RegisteredVm> vm, const std::function<absl::Status()>& announce);

  // The same for a VM that is the same one anew: nobody sees that neither is there. If there is an
  // error, neither is.
  absl::Status Replace(const RegisteredVm& old, std::shared_ptr<RegisteredVm> vm);

  // Removes exactly this VM; a later one of the same id is not touched.
  void Remove(const RegisteredVm& vm);

  // Errors: kVmNotFound.
  absl::StatusOr<std::shared_ptr<RegisteredVm>> Find(const std::string& vm_id) const;

  // Errors: kVmNotFound, kVmBusy, and why the VM cannot be reached.
  absl::StatusOr<VmLease> Lease(const std::string& vm_id) const;

  // At most `limit` VMs in order of their ids, after `after` (empty: from the first).
  std::vector<std::shared_ptr<RegisteredVm>> List(const std::string& after, size_t limit) const;

  size_t size() const;

 private:
  using Map = std::map<std::string, std::shared_ptr<RegisteredVm>>;

  // What was taken out is to be destroyed after the lock is released.
  absl::StatusOr<std::shared_ptr<RegisteredVm>> AddLocked(
      std::shared_ptr<RegisteredVm> vm, const std::function<absl::Status()>& announce);
  std::shared_ptr<RegisteredVm> RemoveLocked(const RegisteredVm& vm);

  const Limits limits_;
  const absl::Duration patience_;
  mutable std::mutex mutex_;
  Map vms_;  // guarded by mutex_
};

}  // namespace tsc_handoff::registry

#endif  // TSC_HANDOFF_SERVER_REGISTRY_VM_REGISTRY_H_
