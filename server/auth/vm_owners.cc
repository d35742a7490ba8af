#include "server/auth/vm_owners.h"

#include "absl/strings/str_cat.h"

namespace tsc_handoff::auth {

std::optional<uint32_t> VmOwners::OwnerOf(const std::string& vm_id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = owners_.find(vm_id);
  return found == owners_.end() ? std::nullopt : std::make_optional(found->second);
}

absl::Status VmOwners::MayRegister(const Policy& policy, const Identity& who,
                                   const std::string& vm_id, const VmInUse& in_use) const {
  if (who.uid == 0) return absl::OkStatus();
  const bool bound = BindsVmms(policy);
  if (bound && !Decide(policy, who, Role::kVmm).vms.Holds(vm_id)) {
    return absl::PermissionDeniedError(absl::StrCat(
        "uid ", who.uid, " may not register the VM id ", vm_id,
        ": no binding of role vmm in the agent's policy says so (", policy.source, ")"));
  }
  const std::optional<uint32_t> remembered = OwnerOf(vm_id);
  const std::optional<uint32_t> owner = in_use.uid.has_value() ? in_use.uid : remembered;
  if (owner.has_value() && *owner != who.uid && (in_use.is || !bound)) {
    return absl::PermissionDeniedError(absl::StrCat(
        "the VM id ", vm_id, " is of uid ", *owner, ", and uid ", who.uid,
        " may not take it over; give the VM another id, or have the agent's policy give this one "
        "to that user (role vmm)"));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!remembered.has_value() && owners_.size() >= kMaxVms)
    return absl::ResourceExhaustedError(
        absl::StrCat("the agent has seen ", kMaxVms, " VM ids since its start; restart it"));
  return absl::OkStatus();
}

void VmOwners::Registered(const std::string& vm_id, uint32_t uid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (uid == 0 && owners_.count(vm_id) > 0) return;
  owners_[vm_id] = uid;
}

}  // namespace tsc_handoff::auth
