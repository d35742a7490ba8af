// What a port's operation says of its failure, as a Status with a Reason, the ioctl's name, errno
// and vCPU.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_PORT_FAULT_H_
#define TSC_HANDOFF_SERVER_PORT_FAULT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/vmm/tsc_kvm.h"

namespace tsc_handoff::port {

// OK for TSC_KVM_OK. Values that no executor sends count as a broken protocol: kVmmGone.
absl::Status FaultToStatus(const std::string& vm_id, const tsc_kvm_fault& fault);

// The ioctl behind a step, for example "KVM_SET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)"; "none" for
// TSC_STEP_NONE.
const char* IoctlOfStep(uint32_t step);

// Every ioctl that it names.
std::vector<std::string> IoctlNames();

}  // namespace tsc_handoff::port

#endif  // TSC_HANDOFF_SERVER_PORT_FAULT_H_
