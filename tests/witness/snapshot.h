// A paused witness VM as bytes: memory, in which the guest's record lies, and every vCPU's
// registers. Not its TSCs: those are what the agents hand over.
//
// The file: magic, version, length and CRC-32 of the rest, then the rest compressed by zlib (1 MiB
// of mostly zeros becomes a few kB, so that it passes through any channel). Written by and for this
// program on x86-64.
//
// Threading: plain values and pure functions.
#ifndef TSC_HANDOFF_TESTS_WITNESS_SNAPSHOT_H_
#define TSC_HANDOFF_TESTS_WITNESS_SNAPSHOT_H_

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tsc_handoff::witness {

inline constexpr uint32_t kSnapshotVersion = 1;

struct VcpuSnapshot {
  uint32_t id = 0;
  kvm_regs regs = {};
  kvm_sregs sregs = {};
  kvm_mp_state mp_state = {};
  kvm_vcpu_events events = {};
  kvm_lapic_state lapic = {};  // zeros without an irqchip
  std::vector<kvm_msr_entry> msrs;
};

struct Snapshot {
  uint32_t record_version = 0;
  bool irqchip = false;
  std::string vm_id;  // the source's, for people
  std::vector<VcpuSnapshot> vcpus;
  std::string memory;
};

std::string EncodeSnapshot(const Snapshot& snapshot);

// DATA_LOSS: truncated, damaged or no snapshot at all. FAILED_PRECONDITION: of another version.
absl::StatusOr<Snapshot> DecodeSnapshot(std::string_view bytes);

// Replaces the file whole or not at all.
absl::Status WriteFile(const std::string& path, std::string_view bytes);
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace tsc_handoff::witness

#endif  // TSC_HANDOFF_TESTS_WITNESS_SNAPSHOT_H_
