#include "server/agent/linux_host_vms.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/vmm/tsc_kvm.h"
#include "server/attach/attached_port.h"
#include "server/attach/held_descriptors.h"
#include "server/attach/kvm_threads.h"
#include "server/attach/refusal.h"
#include "server/attach/target.h"
#include "server/base/error.h"
#include "server/observe/kvm_debugfs.h"

namespace tsc_handoff::agent {
namespace {

using discovery::FoundVm;

// Held by its pidfd, and the process that was found.
absl::StatusOr<attach::Target> OpenTarget(const FoundVm& vm) {
  auto target = attach::Target::Open(vm.pid);
  if (!target.ok()) return target;
  auto stat = target->Read("stat");
  if (!stat.ok()) return stat.status();
  if (discovery::ParseStartTime(*stat) == vm.start_time_ticks) return target;
  return Error(Reason::kVmmGone, absl::StrCat("process ", vm.pid, " has ended"),
               {{"pid", absl::StrCat(vm.pid)}});
}

// What of the reasons not to borrow a thread is for long. The others pass, and are found then.
absl::Status CheckSeccomp(const attach::Target& target, const attach::AttachPolicy& policy) {
  auto text = target.Read("status");
  if (!text.ok()) return text.status();
  const auto status = attach::ParseStatus(*text);
  if (!status || status->seccomp == 0) return absl::OkStatus();
  const auto refusal = attach::WhyNotBorrow(*status, policy);
  if (!refusal || refusal->word.substr(0, 7) != "seccomp") return absl::OkStatus();
  return Error(Reason::kAttachRefused,
               absl::StrCat("process ", target.pid(), " ", refusal->sentence),
               {{"pid", absl::StrCat(target.pid())}, {"refusal", std::string(refusal->word)}});
}

std::vector<int> VcpuFds(const FoundVm& vm) {
  std::vector<int> fds;
  fds.reserve(vm.descriptors.vcpus.size());
  for (const auto& vcpu : vm.descriptors.vcpus) fds.push_back(vcpu.fd);
  return fds;
}

absl::StatusOr<attach::AttachedVm> ToAttach(const FoundVm& vm, const std::string& vm_id) {
  attach::AttachedVm out;
  out.vm_id = vm_id;
  out.vm_fd = vm.descriptors.vm_fd;
  for (const auto& vcpu : vm.descriptors.vcpus) out.vcpus.push_back({vcpu.id, vcpu.fd});
  if (out.vcpus.size() <= TSC_KVM_MAX_VCPUS && out.vcpus.back().id <= TSC_KVM_MAX_VCPU_ID)
    return out;
  return Error(
      Reason::kLimitExceeded,
      absl::StrCat("at most ", TSC_KVM_MAX_VCPUS, " vCPUs with ids up to ", TSC_KVM_MAX_VCPU_ID),
      {{"limit", absl::StrCat(TSC_KVM_MAX_VCPUS)}});
}

}  // namespace

LinuxHostVms::LinuxHostVms(LinuxHostVmsOptions options, discovery::VmIdRule rule,
                           OnAttach on_attach)
    : options_(std::move(options)),
      rule_(std::move(rule)),
      on_attach_(std::move(on_attach)),
      events_(options_.roots.proc, options_.roots.debugfs_kvm) {}

std::vector<FoundVm> LinuxHostVms::Find() {
  const auto known = discovery::ProcessesInDebugfs(options_.roots);
  std::vector<FoundVm> found = known ? discovery::FindVmsOf(options_.roots, *known, rule_)
                                     : discovery::FindVms(options_.roots, rule_);
  // This process holds descriptors of all VMs that it reaches; its own ones are registered.
  std::erase_if(found, [](const FoundVm& vm) { return vm.pid == getpid(); });
  return found;
}

observe::HostView LinuxHostVms::Observe() {
  if (!options_.observe) return {};
  observe::HostView out;
  for (auto& [key, view] : observe::ReadHostView(options_.roots.debugfs_kvm)) {
    // One whose maker's thread has ended keeps that thread's number, which says nothing any more.
    const auto process = discovery::ProcessOf(options_.roots, key.pid);
    out.emplace(observe::VmKey{process.value_or(key.pid), key.fd}, std::move(view));
  }
  return out;
}

std::optional<bool> LinuxHostVms::SeenPaused(const FoundVm& vm) {
  auto target = OpenTarget(vm);
  if (!target.ok() || vm.descriptors.vcpus.empty()) return std::nullopt;
  const std::optional<bool> executing = attach::VcpusSeenExecuting(*target, VcpuFds(vm));
  return executing ? std::optional<bool>(!*executing) : std::nullopt;
}

absl::StatusOr<std::unique_ptr<port::VmPort>> LinuxHostVms::Attach(const FoundVm& vm,
                                                                   const std::string& vm_id) {
  if (absl::Status status = discovery::CheckAttachPermitted(options_.rules, vm); !status.ok())
    return status;
  auto attached = ToAttach(vm, vm_id);
  if (!attached.ok()) return attached.status();
  auto target = OpenTarget(vm);
  if (!target.ok()) return target.status();
  attach::AttachedPortOptions options;
  options.policy.allow_seccomp_filter = options_.allow_seccomp;
  if (absl::Status status = CheckSeccomp(*target, options.policy); !status.ok()) return status;
  std::vector<uint32_t> ids;
  for (const auto& vcpu : vm.descriptors.vcpus) ids.push_back(vcpu.id);
  auto held = attach::HeldDescriptors::Take(*target, vm.descriptors.vm_fd, VcpuFds(vm));
  if (!held.ok()) return held.status();
  if (absl::Status status = check_.Check(held->vm(), ids, held->vcpus()); !status.ok())
    return Error(Reason::kVmAmbiguous, status.message(), {{"vm_id", vm_id}});
  options.held = std::make_shared<attach::HeldDescriptors>(*std::move(held));
  if (on_attach_) {
    options.before_injection = [this, vm, vm_id](pid_t tid) { on_attach_(vm, vm_id, tid); };
  }
  return std::make_unique<attach::AttachedPort>(*std::move(target), *std::move(attached),
                                                std::move(options));
}

void LinuxHostVms::WatchEndsOf(const std::vector<FoundVm>& vms) {
  std::vector<discovery::ProcessId> processes;
  processes.reserve(vms.size());
  for (const FoundVm& vm : vms) processes.push_back({vm.pid, vm.start_time_ticks});
  events_.WatchEndsOf(processes);
}

}  // namespace tsc_handoff::agent
