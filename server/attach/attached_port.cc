#include "server/attach/attached_port.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/attach/injection.h"
#include "server/attach/job.h"
#include "server/attach/kvm_threads.h"
#include "server/attach/tracee.h"
#include "server/base/error.h"
#include "server/port/fault.h"

namespace tsc_handoff::attach {
namespace {

// Where the parts of a job are, from its beginning (job.h).
struct Layout {
  explicit Layout(size_t vcpus)
      : vcpu_list(sizeof(attach_kvm_job)),
        before(vcpu_list + vcpus * sizeof(tsc_kvm_vcpu)),
        after(before + vcpus * sizeof(tsc_vcpu_state)),
        wanted(after + vcpus * sizeof(tsc_vcpu_state)) {}
  size_t vcpu_list;
  size_t before;
  size_t after;
  size_t wanted;
};

std::vector<std::byte> MakeJob(attach_kvm_job head, const AttachedVm& vm,
                               const std::vector<tsc_vcpu_state>& wanted) {
  const Layout layout(vm.vcpus.size());
  head.head.count = static_cast<uint32_t>(vm.vcpus.size());
  head.vm_fd = vm.vm_fd;
  std::vector<std::byte> job(layout.wanted + wanted.size() * sizeof(tsc_vcpu_state));
  std::memcpy(job.data(), &head, sizeof(head));
  if (!vm.vcpus.empty()) {
    std::memcpy(job.data() + layout.vcpu_list, vm.vcpus.data(),
                vm.vcpus.size() * sizeof(tsc_kvm_vcpu));
  }
  if (!wanted.empty()) {
    std::memcpy(job.data() + layout.wanted, wanted.data(), wanted.size() * sizeof(tsc_vcpu_state));
  }
  return job;
}

attach_kvm_job HeadOf(const std::vector<std::byte>& job) {
  attach_kvm_job head;
  std::memcpy(&head, job.data(), sizeof(head));
  return head;
}

bool HasEnded(const absl::Status& status) {
  Metadata metadata = MetadataOf(status);
  return metadata["refusal"] == "zombie";
}

}  // namespace

AttachedPort::AttachedPort(Target target, AttachedVm vm, AttachedPortOptions options)
    : target_(std::move(target)), vm_(std::move(vm)), options_(std::move(options)) {
  for (const tsc_kvm_vcpu& vcpu : vm_.vcpus) vcpu_fds_.push_back(vcpu.fd);
}

absl::Status AttachedPort::CheckDescriptors() const {
  return options_.held == nullptr ? absl::OkStatus() : options_.held->CheckUnchanged(target_);
}

absl::StatusOr<bool> AttachedPort::IsPaused() {
  if (absl::Status status = CheckDescriptors(); !status.ok()) return status;
  absl::StatusOr<bool> execute = VcpusExecute(target_, vcpu_fds_);
  if (!execute.ok()) return execute.status();
  return !*execute;
}

void AttachedPort::SendPermit(const port::Permit&) {}

absl::StatusOr<port::Capture> AttachedPort::ReadAll(port::Hold) {
  attach_kvm_job head = {};
  head.head.kind = ATTACH_JOB_CAPTURE;
  absl::StatusOr<std::vector<std::byte>> job = Run(MakeJob(head, vm_, {}));
  if (!job.ok()) return job.status();
  auto vcpus = States(*job, Layout(vm_.vcpus.size()).before);
  if (!vcpus.ok()) return vcpus.status();
  return port::Capture{*std::move(vcpus), HeadOf(*job).kvmclock};
}

absl::StatusOr<port::Applied> AttachedPort::WriteAll(const port::ApplyOrder& order, port::Hold) {
  attach_kvm_job head = {};
  head.head.kind = ATTACH_JOB_APPLY;
  head.target = order.target;
  head.target.vcpu_count = static_cast<uint32_t>(order.vcpus.size());
  absl::StatusOr<std::vector<std::byte>> job = Run(MakeJob(head, vm_, order.vcpus));
  if (ReasonOf(job.status()) == Reason::kInternalError) {
    // It may have been carried out all the same, as a whole; whoever reads the VM finds out.
    return Error(Reason::kVmmGone, job.status().message(), {{"vm_id", vm_.vm_id}});
  }
  if (!job.ok()) return job.status();
  const Layout layout(vm_.vcpus.size());
  auto before = States(*job, layout.before);
  if (!before.ok()) return before.status();
  auto after = States(*job, layout.after);
  if (!after.ok()) return after.status();
  return port::Applied{*std::move(before), *std::move(after), HeadOf(*job).kvmclock_result};
}

absl::StatusOr<std::vector<pid_t>> AttachedPort::Candidates() const {
  if (options_.tid != 0) return std::vector<pid_t>{options_.tid};
  return target_.List("task");
}

absl::StatusOr<std::vector<std::byte>> AttachedPort::Run(std::vector<std::byte> job) {
  std::memcpy(job.data() + offsetof(attach_kvm_job, ops), &options_.ops, sizeof(options_.ops));
  last_fault_ = {};
  absl::StatusOr<bool> paused = IsPaused();
  if (!paused.ok()) return paused.status();
  if (!*paused) {
    return Error(Reason::kVmRunning, absl::StrCat("VM ", vm_.vm_id, ": a vCPU is executing"),
                 {{"vm_id", vm_.vm_id}});
  }
  absl::StatusOr<std::vector<pid_t>> candidates = Candidates();
  if (!candidates.ok()) return candidates.status();
  absl::StatusOr<InjectionResult> result = absl::UnknownError("a process without threads");
  for (pid_t tid : *candidates) {
    if (options_.before_injection) options_.before_injection(tid);
    OnTracingThread([&] {
      std::vector<Tracee> held;  // let go when the injection is over
      InjectionOptions options;
      options.policy = options_.policy;
      options.timeout = options_.timeout;
      options.hangs = [&] { return VcpusMayExecute(target_, vcpu_fds_, tid); };
      options.on_hang = [&] { held = HoldExecutingThreads(target_, vcpu_fds_, tid); };
      result = RunInThread(target_, tid, job, options);
    });
    if (result.ok() || !HasEnded(result.status())) break;
  }
  if (!result.ok()) return result.status();
  last_stop_ = result->stopped_for;
  tsc_kvm_fault fault = HeadOf(result->job).fault;
  // Whoever cancelled it was us, because it hung.
  if (result->cancelled && fault.outcome == TSC_KVM_CANCELLED) fault.outcome = TSC_KVM_BLOCKED;
  last_fault_ = fault;
  if (absl::Status status = port::FaultToStatus(vm_.vm_id, fault); !status.ok()) return status;
  return std::move(result->job);
}

// The VMM's other threads could have written there.
absl::StatusOr<std::vector<tsc_vcpu_state>> AttachedPort::States(const std::vector<std::byte>& job,
                                                                 size_t offset) const {
  std::vector<tsc_vcpu_state> out(vm_.vcpus.size());
  if (!out.empty())
    std::memcpy(out.data(), job.data() + offset, out.size() * sizeof(tsc_vcpu_state));
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i].vcpu_id != vm_.vcpus[i].id) {
      return Error(Reason::kVmmGone,
                   absl::StrCat("VM ", vm_.vm_id, ": its VMM has written into the agent's memory"),
                   {{"vm_id", vm_.vm_id}});
    }
  }
  return out;
}

}  // namespace tsc_handoff::attach
