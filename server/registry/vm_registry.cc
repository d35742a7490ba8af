#include "server/registry/vm_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::registry {

VmLease VmLease::Glance(std::shared_ptr<RegisteredVm> vm) {
  const std::lock_guard<std::mutex> lock(vm->use_mutex_);
  if (vm->port_ == nullptr || vm->use_ != RegisteredVm::Use::kNone) return VmLease(nullptr);
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
  absl::StatusOr<std::shared_ptr<RegisteredVm>> displaced;
  const std::lock_guard<std::mutex> lock(mutex_);
  displaced = AddLocked(std::move(vm), announce);
  return displaced.status();
}

absl::Status VmRegistry::Replace(const RegisteredVm& old, std::shared_ptr<RegisteredVm> vm) {
  std::shared_ptr<RegisteredVm> removed;
  absl::StatusOr<std::shared_ptr<RegisteredVm>> displaced;
  const std::lock_guard<std::mutex> lock(mutex_);
  removed = RemoveLocked(old);
  displaced = AddLocked(std::move(vm), [] { return absl::OkStatus(); });
  return displaced.status();
}

void VmRegistry::Remove(const RegisteredVm& vm) {
  std::shared_ptr<RegisteredVm> removed;
  const std::lock_guard<std::mutex> lock(mutex_);
  removed = RemoveLocked(vm);
}

absl::StatusOr<std::shared_ptr<RegisteredVm>> VmRegistry::AddLocked(
    std::shared_ptr<RegisteredVm> vm, const std::function<absl::Status()>& announce) {
  const std::string& vm_id = vm->identity().vm_id;
  const auto found = vms_.find(vm_id);
  const bool gives_way = found != vms_.end() && WasFound(found->second->identity().port) &&
                         !WasFound(vm->identity().port);
  if (found != vms_.end() && !gives_way) {
    return absl::AlreadyExistsError(absl::StrCat("the VM id ", vm_id, " is taken by process ",
                                                 found->second->identity().vmm_pid));
  }
  if (!gives_way && vms_.size() >= limits_.max_vms) {
    return Error(Reason::kLimitExceeded,
                 absl::StrCat("this agent serves at most ", limits_.max_vms, " VMs (--max-vms)"),
                 {{"limit", absl::StrCat(limits_.max_vms)}});
  }
  if (const size_t vcpus = vm->identity().vcpu_ids.size(); vcpus > limits_.max_vcpus) {
    return Error(Reason::kLimitExceeded,
                 absl::StrCat("VM ", vm_id, " has ", vcpus,
                              " vCPUs, and this agent serves none "
                              "with more than ",
                              limits_.max_vcpus, " (--max-vcpus)"),
                 {{"limit", absl::StrCat(limits_.max_vcpus)}});
  }
  if (absl::Status status = announce(); !status.ok()) return status;
  if (gives_way) return std::exchange(found->second, std::move(vm));
  vms_.emplace(vm_id, std::move(vm));
  return nullptr;
}

std::shared_ptr<RegisteredVm> VmRegistry::RemoveLocked(const RegisteredVm& vm) {
  const auto found = vms_.find(vm.identity().vm_id);
  if (found == vms_.end() || found->second.get() != &vm) return nullptr;
  std::shared_ptr<RegisteredVm> removed = std::move(found->second);
  vms_.erase(found);
  return removed;
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
  if (!(*vm)->unreachable().ok()) return (*vm)->unreachable();
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
