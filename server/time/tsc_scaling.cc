#include "server/time/tsc_scaling.h"

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::time {
namespace {

using uint128 = unsigned __int128;

// KVM's adjust_tsc_khz: khz * (1,000,000 + ppm) / 1,000,000, truncated.
uint32_t AdjustKhz(uint32_t khz, int32_t ppm) {
  return static_cast<uint32_t>(uint64_t{khz} * static_cast<uint64_t>(1'000'000 + ppm) / 1'000'000);
}

// KVM's max_tsc_scaling_ratio, which it refuses itself: 64 bits all set on VMX, 40 on SVM.
uint64_t RatioLimit(uint32_t frac_bits) {
  return frac_bits == 32 ? (uint64_t{1} << 40) - 1 : ~uint64_t{0};
}

const char* WhyUnsupported(const TscCapability& host) {
  if (!host.can_scale) return "its KVM has no TSC scaling; without it they must be within 250 ppm";
  if (host.frac_bits != 32 && host.frac_bits != 48)
    return "the format of its scaling ratio is not known";
  return "that ratio is beyond what its hardware scales";
}

absl::Status Unsupported(const TscCapability& host, uint32_t guest_khz) {
  return Error(Reason::kTscKhzUnsupported,
               absl::StrCat("the guest's TSC runs at ", guest_khz, " kHz, this host's at ",
                            host.host_khz, " kHz, and ", WhyUnsupported(host)),
               {{"guest_khz", absl::StrCat(guest_khz)},
                {"host_khz", absl::StrCat(host.host_khz)},
                {"tsc_scaling", host.can_scale ? "true" : "false"}});
}

}  // namespace

bool WithinKvmTolerance(uint32_t host_khz, uint32_t guest_khz) {
  constexpr auto kPpm = static_cast<int32_t>(kKvmTscTolerancePpm);
  return guest_khz >= AdjustKhz(host_khz, -kPpm) && guest_khz <= AdjustKhz(host_khz, kPpm);
}

absl::StatusOr<TscScaling> TscScaling::For(const TscCapability& host, uint32_t guest_khz) {
  if (host.host_khz == 0 || guest_khz == 0) return Unsupported(host, guest_khz);
  TscScaling scaling;
  if (WithinKvmTolerance(host.host_khz, guest_khz)) return scaling;
  // Above the host's rate a KVM without scaling "succeeds" by catch-up, a mode in which the guest's
  // TSC follows the wall clock in jumps; for a handoff that is no frequency at all.
  if (!host.can_scale || (host.frac_bits != 32 && host.frac_bits != 48))
    return Unsupported(host, guest_khz);
  const uint128 ratio = (uint128{guest_khz} << host.frac_bits) / host.host_khz;
  if (ratio == 0 || ratio >= RatioLimit(host.frac_bits)) return Unsupported(host, guest_khz);
  scaling.active_ = true;
  scaling.ratio_ = static_cast<uint64_t>(ratio);
  scaling.frac_bits_ = host.frac_bits;
  return scaling;
}

uint64_t TscScaling::Scale(uint64_t host_tsc_ticks) const {
  if (!active_) return host_tsc_ticks;
  return static_cast<uint64_t>((uint128{host_tsc_ticks} * ratio_) >> frac_bits_);
}

}  // namespace tsc_handoff::time
