// Single ioctls on a VM, written apart from the code under test, so that the suite sets up and
// inspects a VM by other means than those it tests.
//
// Threading: no state.
#ifndef TSC_HANDOFF_TESTS_CONTRACT_KVM_RAW_H_
#define TSC_HANDOFF_TESTS_CONTRACT_KVM_RAW_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/vmm/tsc_kvm.h"

namespace tsc_handoff::contract {

inline constexpr uint32_t kMsrTsc = 0x10;
inline constexpr uint32_t kMsrTscAdjust = 0x3b;
inline constexpr uint32_t kMsrTscDeadline = 0x6e0;

absl::StatusOr<uint64_t> ReadOffset(const tsc_kvm_ops* ops, int vcpu_fd);
absl::Status WriteOffset(const tsc_kvm_ops* ops, int vcpu_fd, uint64_t offset_ticks);
absl::StatusOr<uint64_t> ReadMsr(const tsc_kvm_ops* ops, int vcpu_fd, uint32_t index);
absl::Status WriteMsr(const tsc_kvm_ops* ops, int vcpu_fd, uint32_t index, uint64_t value);
absl::StatusOr<uint32_t> ReadKhz(const tsc_kvm_ops* ops, int vcpu_fd);

// kvmclock, read between two readings of the TSC; the narrowest of several.
struct ClockReading {
  uint64_t kvmclock_ns = 0;
  uint64_t tsc_ticks = 0;  // middle of the bracket
  uint64_t half_width_ticks = 0;
  uint32_t flags = 0;
};
absl::StatusOr<ClockReading> ReadKvmclock(const tsc_kvm_ops* ops, int vm_fd);

int64_t TicksToNs(int64_t ticks, uint32_t khz);
// (host_ticks * ratio) >> frac_bits, modulo 2^64.
uint64_t ScaleTicks(uint64_t host_ticks, uint64_t ratio, int frac_bits);

// Everything that a failed apply must leave as it was.
struct VcpuSnapshot {
  uint32_t id = 0;
  uint32_t khz = 0;
  uint64_t offset_ticks = 0;
  uint64_t adjust_ticks = 0;
  uint64_t deadline_ticks = 0;
  uint64_t ratio = 0;  // filled in by whoever has an oracle
};
struct VmSnapshot {
  std::vector<VcpuSnapshot> vcpus;
  ClockReading kvmclock;
};
absl::StatusOr<VmSnapshot> TakeSnapshot(const tsc_kvm_ops* ops, const tsc_kvm_vm& vm);

// How far kvmclock is off the line through `before`, beyond what the two readings leave open.
int64_t KvmclockMovedNs(const ClockReading& before, const ClockReading& after, uint32_t host_khz);

}  // namespace tsc_handoff::contract

#endif  // TSC_HANDOFF_TESTS_CONTRACT_KVM_RAW_H_
