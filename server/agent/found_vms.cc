#include "server/agent/found_vms.h"

#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/base/sha256.h"

namespace tsc_handoff::agent {
namespace {

using discovery::FoundVm;
using registry::PortKind;
using registry::RegisteredVm;
using registry::VmIdentity;

constexpr size_t kInstanceBytes = 16;
constexpr size_t kNameBytes = 4;

// Processes whose VMMs have registered by themselves.
std::set<pid_t> SpokenFor(const registry::VmRegistry& registry) {
  std::set<pid_t> pids;
  for (const auto& vm : registry.List("", registry.size())) {
    const VmIdentity& identity = vm->identity();
    if (registry::WasFound(identity.port)) continue;
    pids.insert(identity.vmm_pid == 0 ? getpid() : identity.vmm_pid);
  }
  return pids;
}

// One without vCPUs is just being made, or is no VM that anybody runs.
bool HasVcpus(const FoundVm& found) {
  return !found.descriptors.vcpus.empty() || !found.descriptors.undecided.empty();
}

// The same for the agent that comes after this one, and for no other VM.
std::string InstanceOf(const std::string& boot_id, const FoundVm& found) {
  std::string text = absl::StrCat(boot_id, "/", found.pid, "/", found.start_time_ticks, "/",
                                  found.descriptors.vm_fd);
  for (const auto& vcpu : found.descriptors.vcpus) absl::StrAppend(&text, "/", vcpu.id);
  return Sha256(text).substr(0, kInstanceBytes);
}

std::string Describe(const RegisteredVm& vm) {
  if (vm.unreachable().ok()) return "found: can be attached to";
  return absl::StrCat("found: cannot be reached: ", std::string(vm.unreachable().message()));
}

bool SameStanding(const RegisteredVm& a, const RegisteredVm& b) {
  return a.identity().vm_id == b.identity().vm_id && a.unreachable() == b.unreachable();
}

}  // namespace

bool FoundVms::Update(std::vector<FoundVm> found) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::set<pid_t> spoken_for = SpokenFor(parts_.registry);
  // So that which of two has an id does not depend on when this agent was started.
  std::stable_sort(found.begin(), found.end(), [](const FoundVm& a, const FoundVm& b) {
    return a.start_time_ticks < b.start_time_ticks;
  });
  std::map<Key, FoundVm> wanted;
  std::vector<Key> order;
  for (FoundVm& vm : found) {
    if (spoken_for.count(vm.pid) > 0 || !HasVcpus(vm)) continue;
    order.emplace_back(vm.pid, vm.start_time_ticks, vm.descriptors.vm_fd);
    wanted.emplace(order.back(), std::move(vm));
  }
  bool changed = RemoveAllBut(wanted);
  for (const Key& key : order) {
    const auto entry = entries_.find(key);
    // What cannot be reached may be by now.
    if (entry == entries_.end() || !entry->second.vm->unreachable().ok() ||
        entry->second.found != wanted.at(key) || !IsThere(entry->second))
      changed |= Offer(key, wanted.at(key));
  }
  return changed;
}

bool FoundVms::IsThere(const Entry& entry) const {
  const auto there = parts_.registry.Find(entry.vm->identity().vm_id);
  return there.ok() && *there == entry.vm;
}

bool FoundVms::RemoveAllBut(const std::map<Key, FoundVm>& wanted) {
  bool changed = false;
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (wanted.count(it->first) > 0) {
      ++it;
      continue;
    }
    Remove(it->second, "gone");
    it = entries_.erase(it);
    changed = true;
  }
  std::erase_if(not_registered_, [&](const auto& told) { return wanted.count(told.first) == 0; });
  return changed;
}

void FoundVms::Remove(const Entry& entry, const std::string& why) {
  parts_.registry.Remove(*entry.vm);
  Tell(entry.vm->identity(), why);
}

bool FoundVms::Offer(const Key& key, const FoundVm& found) {
  const auto entry = entries_.find(key);
  const bool known = entry != entries_.end();
  const std::shared_ptr<RegisteredVm> vm = MakeUnderFreeId(found, known ? &entry->second : nullptr);
  if (vm == nullptr) {
    if (!known) return false;
    Remove(entry->second, "gone");
    entries_.erase(entry);
    return true;
  }
  if (known && entry->second.found == found && IsThere(entry->second) &&
      SameStanding(*entry->second.vm, *vm))
    return false;
  const absl::Status added = known ? parts_.registry.Replace(*entry->second.vm, vm)
                                   : parts_.registry.Add(vm, [] { return absl::OkStatus(); });
  if (!added.ok()) {
    if (known) entries_.erase(entry);
    std::string& why = not_registered_[key];
    if (why != added.message()) {
      why = std::string(added.message());
      Tell(vm->identity(), absl::StrCat("found, and left out: ", why));
    }
    return known;
  }
  not_registered_.erase(key);
  Tell(vm->identity(), Describe(*vm));
  entries_[key] = {found, vm};
  return true;
}

std::shared_ptr<RegisteredVm> FoundVms::MakeUnderFreeId(const FoundVm& found,
                                                        const Entry* present) const {
  const std::string by_process = NameByProcess(found);
  const std::string vm_id = found.vm_id.empty() ? by_process : found.vm_id;
  const auto holder = parts_.registry.Find(vm_id);
  if (!holder.ok() || (present != nullptr && *holder == present->vm)) return Make(found, vm_id);
  return MakeUnreachable(
      found, by_process,
      Error(Reason::kVmAmbiguous,
            absl::StrCat("its id ", vm_id, " is taken by process ", (*holder)->identity().vmm_pid),
            {{"vm_id", by_process}}));
}

void FoundVms::NoteRunStates(
    const std::function<std::optional<bool>(const FoundVm&)>& seen_paused) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [key, entry] : entries_) {
    if (const std::optional<bool> paused = seen_paused(entry.found))
      entry.vm->set_run_state(*paused ? registry::RunState::kPaused : registry::RunState::kRunning);
  }
}

void FoundVms::GiveWayTo(pid_t pid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) {
    if (std::get<0>(entry.first) != pid) return false;
    Remove(entry.second, "gives way: its VMM has registered");
    return true;
  });
}

std::string FoundVms::NameByProcess(const FoundVm& found) const {
  const std::string unique =
      Sha256(absl::StrCat(parts_.boot_id, "/", found.start_time_ticks)).substr(0, kNameBytes);
  return absl::StrCat("kvm-", found.pid, "-", found.descriptors.vm_fd, "-",
                      absl::BytesToHexString(unique));
}

VmIdentity FoundVms::IdentityOf(const FoundVm& found, const std::string& vm_id) const {
  VmIdentity identity;
  identity.vm_id = vm_id;
  for (const auto& vcpu : found.descriptors.vcpus) identity.vcpu_ids.push_back(vcpu.id);
  identity.vmm_pid = found.pid;
  identity.vmm_uid = found.uid;
  identity.registered_at_ns = parts_.realtime_ns();
  identity.vmm_instance = InstanceOf(parts_.boot_id, found);
  identity.vmm_vm_fd = found.descriptors.vm_fd;
  return identity;
}

std::shared_ptr<RegisteredVm> FoundVms::Make(const FoundVm& found, const std::string& vm_id) const {
  if (!found.descriptors.undecided.empty()) {
    return MakeUnreachable(
        found, vm_id, Error(Reason::kVmAmbiguous, found.descriptors.undecided, {{"vm_id", vm_id}}));
  }
  auto port = parts_.attach(found, vm_id);
  if (ReasonOf(port.status()) == Reason::kVmmGone) return nullptr;
  if (!port.ok()) return MakeUnreachable(found, vm_id, port.status());
  VmIdentity identity = IdentityOf(found, vm_id);
  identity.port = PortKind::kAttached;
  return std::make_shared<RegisteredVm>(std::move(identity), *std::move(port),
                                        std::vector<UniqueFd>());
}

std::shared_ptr<RegisteredVm> FoundVms::MakeUnreachable(const FoundVm& found,
                                                        const std::string& vm_id,
                                                        absl::Status why) const {
  VmIdentity identity = IdentityOf(found, vm_id);
  identity.port = PortKind::kNone;
  return std::make_shared<RegisteredVm>(std::move(identity), std::move(why));
}

void FoundVms::Tell(const VmIdentity& identity, const std::string& what) const {
  if (parts_.on_event) parts_.on_event(identity, what);
}

}  // namespace tsc_handoff::agent
