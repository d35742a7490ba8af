// One KVM virtual machine with the witness guest in it: makes it, sets its initial state, saves and
// loads it.
//
// It writes TSC offsets and IA32_TSC_ADJUST in two places only: a fresh guest's initial phases, and
// Disturb, the negative control of the tests. (In the product client/vmm/tsc_kvm.c is the only
// issuer of TSC ioctls. This program is the tests' witness and must not lean on the code that it
// judges.)
//
// Threading: not thread-safe. Vcpu i's KVM_RUN may go on in a thread of its own (runner.h);
// everything but the records may be used only while no vCPU runs.
#ifndef TSC_HANDOFF_TESTS_WITNESS_MACHINE_H_
#define TSC_HANDOFF_TESTS_WITNESS_MACHINE_H_

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/witness/record.h"
#include "tests/witness/snapshot.h"

namespace tsc_handoff::witness {

struct MachineConfig {
  std::vector<uint32_t> vcpu_ids;  // strictly ascending, 1 to WITNESS_MAX_VCPUS
  bool irqchip = false;
};

// What a fresh guest starts with; each vector has one entry per vCPU.
struct GuestSetup {
  std::vector<uint64_t> phase_ticks;
  std::vector<uint64_t> tsc_adjust_ticks;
  bool check_across = true;
  uint64_t deadline_period_ticks = 0;
};

struct Vcpu {
  uint32_t id = 0;
  int fd = -1;
  kvm_run* run = nullptr;
};

class Machine {
 public:
  // UNAVAILABLE where there is no usable KVM, with what to do about it.
  static absl::StatusOr<std::unique_ptr<Machine>> Create(const MachineConfig& config);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  int vm_fd() const { return vm_fd_; }
  const std::vector<Vcpu>& vcpus() const { return vcpus_; }
  bool irqchip() const { return irqchip_; }
  volatile WitnessShared* shared() const;
  volatile WitnessVcpu* record(size_t index) const;

  // Puts a fresh guest into memory and the vCPUs at its entry. FAILED_PRECONDITION where the host's
  // KVM does not keep the TSC offsets that the phases need.
  absl::Status StartFresh(const GuestSetup& setup);

  absl::StatusOr<Snapshot> Save() const;

  // FAILED_PRECONDITION if the snapshot is of other vCPUs than this machine has.
  absl::Status Load(const Snapshot& snapshot);

  // Moves one vCPU's TSC behind everybody's back: what the guest must notice. Returns the new
  // offset as read back.
  absl::StatusOr<uint64_t> Disturb(size_t index, int64_t ticks);

  // Switches the comparison across vCPUs on or off; it starts with the next reading.
  void SetCheckAcross(bool on);

 private:
  Machine() = default;
  absl::Status CreateVm(const MachineConfig& config);
  absl::Status CreateVcpu(uint32_t id);
  absl::Status SetCpuid(const Vcpu& vcpu) const;
  void WriteMemory(const GuestSetup& setup);
  absl::Status SetEntry(const Vcpu& vcpu, size_t index) const;
  absl::Status SetPhases(const std::vector<uint64_t>& phase_ticks);

  int kvm_fd_ = -1;
  int vm_fd_ = -1;
  bool irqchip_ = false;
  uint8_t* memory_ = nullptr;
  size_t run_size_ = 0;
  std::vector<Vcpu> vcpus_;
};

// One MSR; NOT_FOUND if KVM does not know it.
absl::StatusOr<uint64_t> GetMsr(const Vcpu& vcpu, uint32_t index);
absl::StatusOr<uint64_t> GetTscOffset(const Vcpu& vcpu);

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_MACHINE_H_
