// What debugfs says of the TSCs of the host's VMs, without touching one of them: per vCPU the
// offset, and where the CPU scales, ratio and fraction bits. How far apart a VM's offsets are is
// the phase of its vCPUs' TSCs: in a VM whose vCPUs started together and were never written to, it
// is 0.
//
// A spread that changes while nobody handed the VM over means that a guest or a VMM wrote a TSC.
//
// Pure functions; kvm_debugfs.h reads.
#ifndef TSC_HANDOFF_SERVER_OBSERVE_TSC_VIEW_H_
#define TSC_HANDOFF_SERVER_OBSERVE_TSC_VIEW_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff::observe {

// A VM as debugfs names it: the process that made it and its descriptor then.
struct VmKey {
  pid_t pid = 0;
  int fd = 0;
  auto operator<=>(const VmKey&) const = default;
};

struct VcpuView {
  uint32_t id = 0;
  uint64_t offset_ticks = 0;
  // Only where the CPU can scale.
  std::optional<uint64_t> ratio;
  std::optional<uint32_t> ratio_frac_bits;
  bool operator==(const VcpuView&) const = default;
};

struct VmView {
  std::vector<VcpuView> vcpus;  // ascending ids
  // False while offsets were being written when they were read, so that they do not belong
  // together.
  bool steady = true;
  bool operator==(const VmView&) const = default;
};

using HostView = std::map<VmKey, VmView>;

// "PID-FD"; nullopt for anything else.
std::optional<VmKey> ParseVmName(absl::string_view name);
// "vcpuN".
std::optional<uint32_t> ParseVcpuName(absl::string_view name);
// A decimal number, as debugfs prints it: offsets with a sign, modulo 2^64; ratios without.
std::optional<uint64_t> ParseTicks(absl::string_view text);

// How far the offset that is furthest ahead is from the one that is furthest behind, modulo 2^64
// the short way round; 0 for fewer than two vCPUs.
uint64_t PhaseSpreadTicks(const VmView& vm);
// Whether all vCPUs have one offset and one ratio.
bool IsInPhase(const VmView& vm);
// Whether KVM gives a vCPU another frequency than the host's.
bool IsScaled(const VmView& vm);

struct SpreadChange {
  VmKey vm;
  uint64_t before_ticks = 0;
  uint64_t after_ticks = 0;
  bool operator==(const SpreadChange&) const = default;
};

// The VMs whose spread differs between two observations. A VM that has come or gone, whose set of
// vCPUs has changed, or that is not steady in one of them, is not compared.
std::vector<SpreadChange> CompareViews(const HostView& before, const HostView& after);

}  // namespace tsc_handoff::observe

#endif  // TSC_HANDOFF_SERVER_OBSERVE_TSC_VIEW_H_
