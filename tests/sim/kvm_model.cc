#include "tests/sim/kvm_model.h"

#include <errno.h>

#include <algorithm>

namespace tsc_handoff::sim {
namespace {

// KVM's module parameter tsc_tolerance_ppm.
constexpr int64_t kTolerancePpm = 250;

uint64_t MaxRatio(Vendor vendor) {
  return vendor == Vendor::kVmx ? UINT64_MAX : 0x000000ff'ffffffffull;  // SVM: 8 integer bits
}

uint64_t MultiplyShift(uint64_t a, uint64_t b, int shift) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> shift);
}

// Frequencies from here on are refused even where the CPU scales.
uint64_t MaxGuestKhz(Vendor vendor, uint32_t host_khz) {
  return std::min<uint64_t>(INT32_MAX, MultiplyShift(host_khz, MaxRatio(vendor), FracBits(vendor)));
}

uint32_t AdjustKhz(uint32_t khz, int64_t ppm) {
  return static_cast<uint32_t>(uint64_t{khz} * static_cast<uint64_t>(1'000'000 + ppm) / 1'000'000);
}

bool WithinTolerance(uint32_t host_khz, uint32_t khz) {
  return khz >= AdjustKhz(host_khz, -kTolerancePpm) && khz <= AdjustKhz(host_khz, kTolerancePpm);
}

uint64_t NsToTicks(int64_t ns, uint32_t khz) {
  return static_cast<uint64_t>(static_cast<__int128>(ns) * khz / 1'000'000);
}

}  // namespace

int FracBits(Vendor vendor) { return vendor == Vendor::kVmx ? 48 : 32; }

std::optional<uint64_t> ScalingRatio(Vendor vendor, uint32_t host_khz, uint32_t guest_khz) {
  auto wide = (static_cast<unsigned __int128>(guest_khz) << FracBits(vendor)) / host_khz;
  uint64_t ratio = static_cast<uint64_t>(wide);
  if (wide != ratio || ratio == 0 || ratio >= MaxRatio(vendor)) return std::nullopt;
  return ratio;
}

KvmModel::KvmModel(const KvmTraits& traits, HostClock& clock)
    : traits_(traits),
      clock_(clock),
      default_ratio_(uint64_t{1} << FracBits(traits.vendor)),
      kvmclock_offset_ns_(-clock.KernelNsAt(clock.PeekTsc())) {}

void KvmModel::AddVcpu(uint32_t id, const VcpuTraits& vcpu_traits) {
  Vcpu vcpu;
  vcpu.id = id;
  vcpu.ratio = default_ratio_;
  vcpu.virtual_khz = clock_.tsc_khz();
  vcpu.traits = vcpu_traits;
  vcpus_.push_back(vcpu);
  WriteTscMsr(vcpus_.back(), 0);
}

uint64_t KvmModel::Scale(uint64_t host_tsc_ticks, uint64_t ratio) const {
  if (ratio == default_ratio_) return host_tsc_ticks;
  return MultiplyShift(host_tsc_ticks, ratio, FracBits(traits_.vendor));
}

uint64_t KvmModel::GuestTscAt(size_t i, uint64_t host_tsc_ticks) const {
  return Scale(host_tsc_ticks, vcpus_[i].ratio) + vcpus_[i].offset_ticks;
}

int KvmModel::SetTscKhz(size_t i, uint32_t khz) {
  Vcpu& vcpu = vcpus_[i];
  uint32_t host_khz = clock_.tsc_khz();
  if (traits_.tsc_control && khz >= MaxGuestKhz(traits_.vendor, host_khz)) return -EINVAL;
  if (khz == 0) khz = host_khz;
  // Remembered before it is known whether it can be had: KVM_GET_TSC_KHZ returns a refused
  // frequency.
  vcpu.virtual_khz = khz;
  if (WithinTolerance(host_khz, khz)) {
    vcpu.ratio = default_ratio_;
    return 0;
  }
  if (!traits_.tsc_control) {
    if (khz < host_khz) return -EINVAL;
    // Never cleared again, not even by going back to the host's frequency.
    vcpu.catch_up = true;
    return 0;
  }
  std::optional<uint64_t> ratio = ScalingRatio(traits_.vendor, host_khz, khz);
  if (!ratio) return -EINVAL;
  vcpu.ratio = *ratio;
  return 0;
}

void KvmModel::SetOffset(size_t i, uint64_t offset_ticks) {
  if (traits_.tsc_protected) return;
  Vcpu& vcpu = vcpus_[i];
  uint64_t tsc = clock_.PeekTsc();
  bool matched = vcpu.virtual_khz == last_khz_ && offset_ticks == last_offset_ticks_;
  Synchronise(vcpu, {.offset_ticks = offset_ticks,
                     .guest_ticks = Scale(tsc, vcpu.ratio) + offset_ticks,
                     .ns = clock_.KernelNsAt(tsc),
                     .matched = matched});
}

// A host's write of IA32_TSC: KVM takes a value near to what it expects for an attempt to
// synchronise the vCPUs, and gives the vCPU the others' offset instead of the value.
void KvmModel::WriteTscMsr(Vcpu& vcpu, uint64_t value) {
  if (traits_.tsc_protected) return;
  uint64_t tsc = clock_.PeekTsc();
  int64_t ns = clock_.KernelNsAt(tsc);
  uint64_t offset_ticks = value - Scale(tsc, vcpu.ratio);
  bool synchronising = value == 0;
  if (!synchronising) {
    uint64_t expected = last_ticks_ + NsToTicks(ns - last_ns_, vcpu.virtual_khz);
    uint64_t second_ticks = uint64_t{vcpu.virtual_khz} * 1000;
    synchronising = value < expected + second_ticks && value + second_ticks > expected;
  }
  bool matched = synchronising && vcpu.virtual_khz == last_khz_;
  if (matched) offset_ticks = generation_offset_ticks_;
  Synchronise(vcpu,
              {.offset_ticks = offset_ticks, .guest_ticks = value, .ns = ns, .matched = matched});
}

void KvmModel::Synchronise(Vcpu& vcpu, const OffsetWrite& write) {
  last_khz_ = vcpu.virtual_khz;
  last_ns_ = write.ns;
  last_ticks_ = write.guest_ticks;
  last_offset_ticks_ = write.offset_ticks;
  vcpu.offset_ticks = write.offset_ticks;
  if (!write.matched) {
    ++generation_;
    generation_ns_ = write.ns;
    generation_ticks_ = write.guest_ticks;
    generation_offset_ticks_ = write.offset_ticks;
    matched_vcpus_ = 0;
  } else if (vcpu.generation != generation_) {
    ++matched_vcpus_;
  }
  vcpu.generation = generation_;
  vcpu.generation_ns = generation_ns_;
  vcpu.generation_ticks = generation_ticks_;
  if (use_master_clock_ || (traits_.tsc_clocksource && AllMatched()))
    vcpu.master_clock_request = true;
}

std::optional<uint64_t> KvmModel::ReadMsr(size_t i, uint32_t index) const {
  switch (index) {
    case kMsrTsc:
      return GuestTscAt(i, clock_.PeekTsc());
    case kMsrTscAdjust:
      return vcpus_[i].adjust_ticks;
    case kMsrTscDeadline:
      return vcpus_[i].deadline_ticks;
    default:
      return std::nullopt;
  }
}

bool KvmModel::WriteMsr(size_t i, uint32_t index, uint64_t value) {
  Vcpu& vcpu = vcpus_[i];
  switch (index) {
    case kMsrTsc:
      WriteTscMsr(vcpu, value);
      return true;
    case kMsrTscAdjust:
      // Written by the host it does not move the TSC, and without the CPUID bit it is dropped.
      if (vcpu.traits.cpuid_tsc_adjust) vcpu.adjust_ticks = value;
      return true;
    case kMsrTscDeadline:
      if (!vcpu.traits.deadline_mode) return true;
      vcpu.deadline_ticks = value;
      if (traits_.apicv && value <= GuestTscAt(i, clock_.PeekTsc())) vcpu.deadline_ticks = 0;
      return true;
    default:
      return false;
  }
}

void KvmModel::UpdateMasterClock() {
  use_master_clock_ = traits_.tsc_clocksource && AllMatched();
  master_tsc_ticks_ = clock_.PeekTsc();
  master_ns_ = clock_.KernelNsAt(master_tsc_ticks_);
}

int KvmModel::GetClock(kvm_clock_data& out) const {
  out = {};
  int64_t true_ns = clock_.time().NowNs();
  uint64_t tsc = clock_.TscAt(true_ns);
  if (!use_master_clock_) {
    out.clock = static_cast<uint64_t>(clock_.KernelNsAt(tsc) + kvmclock_offset_ns_);
    return 0;
  }
  out.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
  out.host_tsc = tsc;
  out.realtime = static_cast<uint64_t>(clock_.RealtimeAt(true_ns));
  // From the master copy's moment on by the TSC. KVM uses a 32-bit multiplier here, which is good
  // to 1 ns in 2 s; the division is exact.
  auto since_ns =
      static_cast<unsigned __int128>(tsc - master_tsc_ticks_) * 1'000'000 / clock_.tsc_khz();
  out.clock =
      static_cast<uint64_t>(master_ns_ + kvmclock_offset_ns_) + static_cast<uint64_t>(since_ns);
  return 0;
}

int KvmModel::SetClock(const kvm_clock_data& in) {
  if (in.flags &
      ~static_cast<uint32_t>(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)) {
    return -EINVAL;
  }
  UpdateMasterClock();
  uint64_t wanted_ns = in.clock;
  if (in.flags & KVM_CLOCK_REALTIME) {
    uint64_t realtime_ns = static_cast<uint64_t>(clock_.PeekRealtimeNs());
    if (realtime_ns > in.realtime) wanted_ns += realtime_ns - in.realtime;
  }
  int64_t now_ns = use_master_clock_ ? master_ns_ : clock_.KernelNsAt(clock_.PeekTsc());
  kvmclock_offset_ns_ = static_cast<int64_t>(wanted_ns - static_cast<uint64_t>(now_ns));
  return 0;
}

void KvmModel::CatchUpWithTime(Vcpu& vcpu) {
  uint64_t tsc = clock_.PeekTsc();
  uint64_t has = Scale(tsc, vcpu.ratio) + vcpu.offset_ticks;
  uint64_t should_have = vcpu.generation_ticks +
                         NsToTicks(clock_.KernelNsAt(tsc) - vcpu.generation_ns, vcpu.virtual_khz);
  if (should_have > has) vcpu.offset_ticks += should_have - has;
}

void KvmModel::Run(size_t i) {
  Vcpu& vcpu = vcpus_[i];
  if (vcpu.master_clock_request) {
    vcpu.master_clock_request = false;
    UpdateMasterClock();
  }
  if (vcpu.catch_up) CatchUpWithTime(vcpu);
  if (vcpu.deadline_ticks != 0 && vcpu.deadline_ticks <= GuestTscAt(i, clock_.PeekTsc()))
    vcpu.deadline_ticks = 0;
}

}  // namespace tsc_handoff::sim
