#include "server/registry/vm_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::registry {

VmLease VmLease::Glance(std::shared_ptr<RegisteredVm> vm) {
  const std::lock_guard<std::mutex> lock(vm->use_mutex_);
  if (vm->use_ != RegisteredVm::Use::kNone) return VmLease(nullptr);
  vm->use_ = RegisteredVm::Use::kGlance;
  return VmLease(std::move(vm));
}

VmLease VmLease::Operate(std::shared_ptr<RegisteredVm> vm, absl::Duration patience) {
  RegisteredVm& used = *vm;
  std::unique_lock<std::mutex> lock(used.use_mutex_);
  const auto no_glance = [&] { return used.use_ != RegisteredVm::Use::kGlance; };
  // Where there is no patience, there is no waiting either: simulations have one thread.
  if (!no_glance() && patience > absl::ZeroDuration())
    used.released_.wait_for(lock, absl::ToChronoNanoseconds(patience), no_glance);
  if (used.use_ != RegisteredVm::Use::kNone) return VmLease(nullptr);
  used.use_ = RegisteredVm::Use::kOperation;
  return VmLease(std::move(vm));
}

VmLease::~VmLease() {
  if (vm_ == nullptr) return;
  {
    const std::lock_guard<std::mutex> lock(vm_->use_mutex_);
    vm_->use_ = RegisteredVm::Use::kNone;
  }
  vm_->released_.notify_all();
}

absl::Status VmRegistry::Add(std::shared_ptr<RegisteredVm> vm,
                             const std::function<absl::Status()>& announce) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::string& vm_id = vm->identity().vm_id;
  if (const auto found = vms_.find(vm_id); found != vms_.end()) {
    return absl::AlreadyExistsError(absl::StrCat("the VM id ", vm_id, " is taken by process ",
                                                 found->second->identity().vmm_pid));
  }
  if (vms_.size() >= max_vms_) {
    return Error(Reason::kLimitExceeded,
                 absl::StrCat("this agent serves at most ", max_vms_, " VMs"),
                 {{"limit", absl::StrCat(max_vms_)}});
  }
  if (absl::Status status = announce(); !status.ok()) return status;
  vms_.emplace(vm_id, std::move(vm));
  return absl::OkStatus();
}

void VmRegistry::Remove(const RegisteredVm& vm) {
  std::shared_ptr<RegisteredVm> removed;  // destroyed after the lock is released
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = vms_.find(vm.identity().vm_id);
  if (found == vms_.end() || found->second.get() != &vm) return;
  removed = std::move(found->second);
  vms_.erase(found);
}

absl::StatusOr<std::shared_ptr<RegisteredVm>> VmRegistry::Find(const std::string& vm_id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = vms_.find(vm_id);
  if (found == vms_.end()) {
    return Error(Reason::kVmNotFound,
                 absl::StrCat("no VM \"", vm_id, "\" is registered with this agent"),
                 {{"vm_id", vm_id}});
  }
  return found->second;
}

absl::StatusOr<VmLease> VmRegistry::Lease(const std::string& vm_id) const {
  auto vm = Find(vm_id);
  if (!vm.ok()) return vm.status();
  VmLease lease = VmLease::Operate(*std::move(vm), patience_);
  if (!lease.held()) {
    return Error(Reason::kVmBusy,
                 absl::StrCat("another operation on VM ", vm_id, " is in progress"),
                 {{"vm_id", vm_id}});
  }
  return lease;
}

std::vector<std::shared_ptr<RegisteredVm>> VmRegistry::List(const std::string& after,
                                                            size_t limit) const {
  std::vector<std::shared_ptr<RegisteredVm>> page;
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = vms_.upper_bound(after); it != vms_.end() && page.size() < limit; ++it)
    page.push_back(it->second);
  return page;
}

size_t VmRegistry::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return vms_.size();
}

}  // namespace tsc_handoff::registry
