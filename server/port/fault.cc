#include "server/port/fault.h"

#include <cerrno>
#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::port {
namespace {

bool StepIsOfVcpu(uint32_t step) {
  return step != TSC_STEP_NONE && step != TSC_STEP_READ_KVMCLOCK && step < TSC_STEP_WRITE_KVMCLOCK;
}

std::string Where(const std::string& vm_id, const tsc_kvm_fault& fault) {
  if (!StepIsOfVcpu(fault.step)) return absl::StrCat("VM ", vm_id);
  return absl::StrCat("VM ", vm_id, ", vCPU ", fault.vcpu_id);
}

// What the errno usually means for these ioctls.
const char* Hint(const tsc_kvm_fault& fault) {
  if (fault.error == EIO) return " (the descriptors were made by another process)";
  if (fault.error == ENXIO &&
      (fault.step == TSC_STEP_READ_OFFSET || fault.step == TSC_STEP_WRITE_OFFSET)) {
    return " (the kernel has no KVM_VCPU_TSC_OFFSET; Linux 5.16 or later is needed)";
  }
  if (fault.error == EBADF) return " (the VMM has closed the descriptor)";
  return "";
}

Metadata MetadataOfFault(const std::string& vm_id, const tsc_kvm_fault& fault) {
  Metadata metadata = {{"vm_id", vm_id}};
  if (fault.step != TSC_STEP_NONE) metadata["ioctl"] = IoctlOfStep(fault.step);
  if (StepIsOfVcpu(fault.step)) metadata["vcpu_id"] = absl::StrCat(fault.vcpu_id);
  if (fault.error != 0) metadata["errno"] = absl::StrCat(fault.error);
  return metadata;
}

absl::Status NotKept(const std::string& vm_id, const tsc_kvm_fault& fault) {
  const std::string values =
      absl::StrCat(" (written ", fault.wanted, ", read back ", fault.found, ")");
  switch (fault.step) {
    case TSC_STEP_VERIFY_OFFSET:
      return Error(Reason::kTscProtected,
                   absl::StrCat(Where(vm_id, fault),
                                ": KVM accepted a TSC offset and did not keep it", values),
                   MetadataOfFault(vm_id, fault));
    case TSC_STEP_VERIFY_MSRS:
      return Error(Reason::kTscAdjustUnsupported,
                   absl::StrCat(Where(vm_id, fault), ": KVM did not keep IA32_TSC_ADJUST", values),
                   MetadataOfFault(vm_id, fault));
    default:
      return Error(Reason::kKvmIoctlFailed,
                   absl::StrCat(Where(vm_id, fault), ": KVM did not keep kvmclock", values),
                   MetadataOfFault(vm_id, fault));
  }
}

}  // namespace

const char* IoctlOfStep(uint32_t step) {
  switch (step) {
    case TSC_STEP_READ_OFFSET:
    case TSC_STEP_VERIFY_OFFSET:
      return "KVM_GET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)";
    case TSC_STEP_WRITE_OFFSET:
      return "KVM_SET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)";
    case TSC_STEP_READ_MSRS:
    case TSC_STEP_VERIFY_MSRS:
      return "KVM_GET_MSRS";
    case TSC_STEP_WRITE_MSRS:
      return "KVM_SET_MSRS";
    case TSC_STEP_READ_KHZ:
      return "KVM_GET_TSC_KHZ";
    case TSC_STEP_WRITE_KHZ:
      return "KVM_SET_TSC_KHZ";
    case TSC_STEP_READ_KVMCLOCK:
    case TSC_STEP_VERIFY_KVMCLOCK:
      return "KVM_GET_CLOCK";
    case TSC_STEP_WRITE_KVMCLOCK:
      return "KVM_SET_CLOCK";
    default:
      return "none";
  }
}

std::vector<std::string> IoctlNames() {
  std::set<std::string> names;
  for (uint32_t step = TSC_STEP_NONE + 1; step <= TSC_STEP_VERIFY_KVMCLOCK; ++step)
    names.insert(IoctlOfStep(step));
  return {names.begin(), names.end()};
}

absl::Status FaultToStatus(const std::string& vm_id, const tsc_kvm_fault& fault) {
  const std::string where = Where(vm_id, fault);
  switch (fault.outcome) {
    case TSC_KVM_OK:
      return absl::OkStatus();
    case TSC_KVM_FAILED:
      return Error(Reason::kKvmIoctlFailed,
                   absl::StrCat(where, ": ", IoctlOfStep(fault.step),
                                " failed: ", strerror(fault.error), Hint(fault)),
                   MetadataOfFault(vm_id, fault));
    case TSC_KVM_NOT_KEPT:
      return NotKept(vm_id, fault);
    case TSC_KVM_ROLLBACK_FAILED:
      return Error(Reason::kRollbackFailed,
                   absl::StrCat(where, ": ", IoctlOfStep(fault.step), " failed (",
                                fault.error != 0 ? strerror(fault.error) : "value not kept",
                                "), and the earlier values could not be restored"),
                   MetadataOfFault(vm_id, fault));
    case TSC_KVM_CANCELLED:
      return Error(Reason::kVmmGone,
                   absl::StrCat(where, ": the VMM gave the operation up; nothing has changed"),
                   {{"vm_id", vm_id}});
    case TSC_KVM_MISMATCH:
      return Error(Reason::kVcpuSetMismatch,
                   absl::StrCat("VM ", vm_id, " does not have the vCPUs that were named"),
                   {{"vm_id", vm_id}, {"vcpu_id", absl::StrCat(fault.vcpu_id)}});
    case TSC_KVM_RUNNING:
      return Error(Reason::kVmRunning, absl::StrCat("VM ", vm_id, " is running, says its VMM"),
                   {{"vm_id", vm_id}});
    case TSC_KVM_BLOCKED:
      return Error(Reason::kVmRunning,
                   absl::StrCat(where, ": the vCPU is executing; ", IoctlOfStep(fault.step),
                                " did not return in time"),
                   MetadataOfFault(vm_id, fault));
    default:
      return Error(
          Reason::kVmmGone,
          absl::StrCat("VM ", vm_id, ": its VMM answered with unknown outcome ", fault.outcome),
          {{"vm_id", vm_id}});
  }
}

}  // namespace tsc_handoff::port
