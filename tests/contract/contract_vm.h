// What the contract suite needs of a kernel: a Backend makes VMs, a ContractVm lets the suite look
// at one from outside and drive it. Simulated hosts and real KVM implement both.
//
// Threading: of one test's thread, but for Interposer and where said.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_CONTRACT_VM_H_
#define TSC_HANDOFF_TESTS_CONTRACT_CONTRACT_VM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/vmm/tsc_kvm.h"
#include "tests/contract/interposer.h"

namespace tsc_handoff::contract {

struct VmSpec {
  std::vector<uint32_t> vcpu_ids = {0, 2, 7};
  // A local APIC in the kernel with its timer in TSC-deadline mode. Otherwise KVM ignores
  // IA32_TSC_DEADLINE.
  bool deadline_timer = false;
};

// The host that a VM runs on.
struct HostTraits {
  uint32_t host_khz = 0;
  int frac_bits = 0;
  bool tsc_control = false;    // scales
  bool tsc_protected = false;  // takes offsets and does not keep them
  bool master_clock = false;   // its clocksource is the TSC
  uint32_t max_vcpu_id = 0;
  uint32_t many_vcpus = 0;  // how many vCPUs the test of large VMs uses
  // How far a kvmclock that was written may be off, beside what the readings themselves leave open.
  // Emulated nodes are preempted between the computation and the write.
  int64_t kvmclock_slack_ns = 0;
};

// A guest's own RDTSC, between two readings of the host's.
struct GuestReading {
  uint64_t host_before_ticks = 0;
  uint64_t guest_ticks = 0;
  uint64_t host_after_ticks = 0;
};

// What the hardware is really told, from a source independent of the code under test: debugfs, or
// the simulation.
struct Oracle {
  uint64_t offset_ticks = 0;
  uint64_t ratio = 0;  // 1 << frac_bits when not scaled
  int frac_bits = 0;
};

class ContractVm {
 public:
  virtual ~ContractVm() = default;

  virtual tsc_kvm_vm vm() const = 0;
  // The kernel, without and with the interposer.
  virtual const tsc_kvm_ops* kernel() const = 0;
  virtual Interposer& interposer() = 0;

  // Vcpus by position. Enters the guest, which reads its TSC, and leaves it again.
  virtual absl::StatusOr<GuestReading> RunOnce(uint32_t i) = 0;
  // UNAVAILABLE where there is no oracle, with the reason.
  virtual absl::StatusOr<Oracle> ReadOracle(uint32_t i) = 0;
  // From Block() to Unblock() the vCPU executes inside KVM_RUN: an ioctl on it does not return.
  virtual absl::Status Block(uint32_t i) = 0;
  virtual absl::Status Unblock(uint32_t i) = 0;
  // The host's CLOCK_REALTIME.
  virtual uint64_t RealtimeNs() = 0;
  // Lets guest time pass.
  virtual void PassTime(int64_t ns) = 0;
  // Captures the VM from a process that did not make it, and returns the fault.
  virtual absl::StatusOr<tsc_kvm_fault> CaptureFromOtherProcess() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const HostTraits& traits() const = 0;
  virtual absl::StatusOr<std::unique_ptr<ContractVm>> CreateVm(const VmSpec& spec) = 0;
};

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_CONTRACT_VM_H_
