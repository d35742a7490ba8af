// RealGuest: a VM on the machine's /dev/kvm whose vCPUs run a few bytes of real-mode code: either
// they store their TSC and leave, or they spin until they are kicked.
//
// Threading: one thread; a spinning vCPU gets a thread of its own.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_REAL_GUEST_H_
#define TSC_HANDOFF_TESTS_CONTRACT_REAL_GUEST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/vmm/tsc_kvm.h"
#include "tests/contract/contract_vm.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::contract {

class RealGuest {
 public:
  static absl::StatusOr<std::unique_ptr<RealGuest>> Create(int kvm_fd, const VmSpec& spec);
  ~RealGuest();
  RealGuest(const RealGuest&) = delete;
  RealGuest& operator=(const RealGuest&) = delete;

  tsc_kvm_vm vm() const {
    return {vm_fd_, static_cast<uint32_t>(handles_.size()), handles_.data()};
  }

  // Enters vCPU `i` (a position), which stores its TSC and leaves.
  absl::StatusOr<GuestReading> RunOnce(uint32_t i);
  // Lets vCPU `i` spin inside KVM_RUN; returns once it does.
  absl::Status StartSpinning(uint32_t i);
  absl::Status StopSpinning(uint32_t i);

 private:
  struct Spinner {
    uint32_t vcpu = 0;
    std::atomic<bool> stop{false};
    std::thread thread;
  };

  RealGuest() = default;
  absl::Status Init(int kvm_fd, const VmSpec& spec);
  absl::Status MakeMemory();
  absl::Status MakeVcpu(int kvm_fd, uint32_t id, const VmSpec& spec);
  absl::Status SetCpuid(int kvm_fd, int fd);
  absl::Status SetDeadlineMode(int fd);
  absl::Status SetRegisters(uint32_t i, uint64_t rip);
  void SpinUntilStopped(Spinner& spinner);
  volatile uint32_t* SlotOf(uint32_t i) const;

  int vm_fd_ = -1;
  int run_size_ = 0;
  unsigned char* memory_ = nullptr;
  std::vector<tsc_kvm_vcpu> handles_;
  std::vector<kvm_run*> runs_;
  std::vector<std::unique_ptr<Spinner>> spinners_;
};

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_REAL_GUEST_H_
