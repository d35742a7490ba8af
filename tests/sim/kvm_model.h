// KvmModel: the TSCs and the kvmclock of one VM, as KVM in Linux 6.1 keeps them. It knows offsets,
// scaling ratios, the matching of offsets that decides about the master clock, and kvmclock; it
// knows nothing of descriptors, processes or injected faults (sim_host.h).
//
// KVM decides by the history of offset writes, not by comparing offsets, whether they all match:
// the master clock comes back only when the same offset is written to every vCPU. And it notices
// only when a vCPU runs or KVM_SET_CLOCK is called. Both are modelled, because a rollback that
// restores just one vCPU would otherwise look right here and cost the guest its master clock on a
// real host.
//
// Threading: not synchronised; SimHost guards it.
#ifndef TSC_HANDOFF_TESTS_SIM_KVM_MODEL_H_
#define TSC_HANDOFF_TESTS_SIM_KVM_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "tests/sim/host_clock.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::sim {

enum class Vendor { kVmx, kSvm };

inline constexpr uint32_t kMsrTsc = 0x10;
inline constexpr uint32_t kMsrTscAdjust = 0x3b;
inline constexpr uint32_t kMsrTscDeadline = 0x6e0;

// What the host's CPU and kernel can do.
struct KvmTraits {
  Vendor vendor = Vendor::kVmx;
  bool tsc_control = true;
  // Offset writes succeed and are not kept, as with SecureTSC, TDX and some stacked hypervisors.
  bool tsc_protected = false;
  // The host's clocksource is the TSC; without it there is no master clock.
  bool tsc_clocksource = true;
  // A deadline in the past is delivered at once and reads back as 0, instead of at the next
  // KVM_RUN.
  bool apicv = false;
};

int FracBits(Vendor vendor);

// guest_khz / host_khz as KVM rounds it; nullopt where KVM refuses it.
std::optional<uint64_t> ScalingRatio(Vendor vendor, uint32_t host_khz, uint32_t guest_khz);

// What the VMM gave a vCPU.
struct VcpuTraits {
  bool cpuid_tsc_adjust = true;  // otherwise KVM drops writes of IA32_TSC_ADJUST
  bool deadline_mode =
      true;  // the LAPIC timer's mode; otherwise KVM drops writes of IA32_TSC_DEADLINE
};

class KvmModel {
 public:
  KvmModel(const KvmTraits& traits, HostClock& clock);

  // Adds a vCPU; KVM tries to synchronise its TSC with the others'.
  void AddVcpu(uint32_t id, const VcpuTraits& vcpu_traits);

  size_t vcpu_count() const { return vcpus_.size(); }
  uint32_t VcpuId(size_t i) const { return vcpus_[i].id; }

  // The ioctls. Return 0 or -errno; KVM_GET_TSC_KHZ the frequency.
  int GetTscKhz(size_t i) const { return static_cast<int>(vcpus_[i].virtual_khz); }
  int SetTscKhz(size_t i, uint32_t khz);
  uint64_t GetOffset(size_t i) const { return vcpus_[i].offset_ticks; }
  void SetOffset(size_t i, uint64_t offset_ticks);
  std::optional<uint64_t> ReadMsr(size_t i, uint32_t index) const;
  bool WriteMsr(size_t i, uint32_t index, uint64_t value);
  int GetClock(kvm_clock_data& out) const;
  int SetClock(const kvm_clock_data& in);
  // What entering the guest does to time.
  void Run(size_t i);

  // Ground truth.
  uint64_t GuestTscAt(size_t i, uint64_t host_tsc_ticks) const;
  uint64_t Ratio(size_t i) const { return vcpus_[i].ratio; }
  bool CatchUp(size_t i) const { return vcpus_[i].catch_up; }
  bool master_clock() const { return use_master_clock_; }

 private:
  // 64 bytes, so that 64,000 vCPUs stay a few MB.
  struct Vcpu {
    uint64_t offset_ticks = 0;
    uint64_t adjust_ticks = 0;
    uint64_t deadline_ticks = 0;
    uint64_t ratio = 0;
    int64_t generation_ns = 0;      // when the generation of matching writes began
    uint64_t generation_ticks = 0;  // and what was written
    uint32_t id = 0;
    uint32_t virtual_khz = 0;
    uint32_t generation = 0;
    bool catch_up = false;
    bool master_clock_request = false;
    VcpuTraits traits;
  };

  struct OffsetWrite {
    uint64_t offset_ticks;
    uint64_t guest_ticks;
    int64_t ns;
    bool matched;
  };

  uint64_t Scale(uint64_t host_tsc_ticks, uint64_t ratio) const;
  void Synchronise(Vcpu& vcpu, const OffsetWrite& write);
  void WriteTscMsr(Vcpu& vcpu, uint64_t value);
  void UpdateMasterClock();
  void CatchUpWithTime(Vcpu& vcpu);
  bool AllMatched() const { return matched_vcpus_ + 1 == vcpus_.size(); }

  const KvmTraits& traits_;
  HostClock& clock_;
  const uint64_t default_ratio_;
  std::vector<Vcpu> vcpus_;

  // The last write of any vCPU's TSC.
  uint32_t last_khz_ = 0;
  int64_t last_ns_ = 0;
  uint64_t last_ticks_ = 0;
  uint64_t last_offset_ticks_ = 0;
  // The generation of matching writes.
  uint32_t generation_ = 0;
  int64_t generation_ns_ = 0;
  uint64_t generation_ticks_ = 0;
  uint64_t generation_offset_ticks_ = 0;
  size_t matched_vcpus_ = 0;  // beside the one that began the generation

  bool use_master_clock_ = false;
  int64_t master_ns_ = 0;
  uint64_t master_tsc_ticks_ = 0;
  int64_t kvmclock_offset_ns_;
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_KVM_MODEL_H_
