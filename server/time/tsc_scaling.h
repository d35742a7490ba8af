// How KVM turns the host's TSC into a guest's: scale(host) = (host * ratio) >> frac_bits, guest =
// scale(host) + offset, everything modulo 2^64. The ratio is (guest_khz << frac_bits) / host_khz,
// truncated (Linux, arch/x86/kvm/x86.c, set_tsc_khz); KVM does not scale at all when the two
// frequencies are within 250 ppm (its tsc_tolerance_ppm).
//
// Pure; no I/O, no state.
#ifndef TSC_HANDOFF_SERVER_TIME_TSC_SCALING_H_
#define TSC_HANDOFF_SERVER_TIME_TSC_SCALING_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace tsc_handoff::time {

// Default of KVM's module parameter tsc_tolerance_ppm.
inline constexpr uint32_t kKvmTscTolerancePpm = 250;

// What a host's KVM can do to frequencies.
struct TscCapability {
  uint32_t host_khz = 0;   // > 0
  bool can_scale = false;  // KVM_CAP_TSC_CONTROL
  uint32_t frac_bits = 0;  // 48 on VMX, 32 on SVM; used only when can_scale
};

// The scaling in force for a guest; value type.
class TscScaling {
 public:
  // No scaling.
  TscScaling() = default;

  // The scaling that KVM uses for a guest of `guest_khz` on this host.
  // Errors: kTscKhzUnsupported when the host cannot give that frequency, with the range that it
  // can.
  static absl::StatusOr<TscScaling> For(const TscCapability& host, uint32_t guest_khz);

  // Whether KVM scales; if not, the guest runs at the host's rate.
  bool active() const { return active_; }
  // The ratio and its fraction bits as debugfs shows them (tsc-scaling-ratio, -frac-bits); 0 when
  // not active.
  uint64_t ratio() const { return active_ ? ratio_ : 0; }
  uint32_t frac_bits() const { return active_ ? frac_bits_ : 0; }

  // Guest ticks, before the offset, for a host TSC. Exactly what the hardware computes.
  uint64_t Scale(uint64_t host_tsc_ticks) const;

 private:
  bool active_ = false;
  uint64_t ratio_ = 0;
  uint32_t frac_bits_ = 0;
};

// Whether KVM leaves a guest of `guest_khz` unscaled on a host of `host_khz`.
bool WithinKvmTolerance(uint32_t host_khz, uint32_t guest_khz);

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_TSC_SCALING_H_
