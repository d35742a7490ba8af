// One vCPU's registers: into a snapshot and back, and into the state in which the guest starts.
//
// Ordering requirements of loading, each with its reason:
// - SREGS before LAPIC: the APIC base in SREGS switches the APIC on and chooses its mode.
// - LAPIC before anybody writes IA32_TSC_DEADLINE: KVM drops that write unless the timer is in
// deadline mode. The
//   agent writes it after the load, with the TSC.
// - MP_STATE last: the others may change it.
//
// Threading: the vCPU must be outside KVM_RUN.
#ifndef TSC_HANDOFF_TESTS_WITNESS_VCPU_STATE_H_
#define TSC_HANDOFF_TESTS_WITNESS_VCPU_STATE_H_

#include <linux/kvm.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/witness/machine.h"
#include "tests/witness/snapshot.h"

namespace tsc_handoff::witness {

absl::StatusOr<VcpuSnapshot> SaveVcpu(const Vcpu& vcpu, bool irqchip);
absl::Status LoadVcpu(const Vcpu& vcpu, const VcpuSnapshot& state, bool irqchip);

// All or an error that names the first MSR that KVM did not take.
absl::Status SetMsrs(const Vcpu& vcpu, const std::vector<kvm_msr_entry>& msrs);

// Flat 64-bit segments and paging with the given top-level table, without descriptor tables in
// memory.
void EnterLongMode(uint64_t pml4_gpa, kvm_sregs* sregs);

// The local APIC enabled, its timer in TSC-deadline mode.
void SetDeadlineMode(kvm_lapic_state* lapic);

// The registers as text, for the message about a guest that stopped.
std::string DescribeRegisters(const Vcpu& vcpu);

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_VCPU_STATE_H_
