#include "server/observe/tsc_view.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::observe {
namespace {

// absl::SimpleAtoi takes spaces and a '+' too.
template <typename T>
std::optional<T> ParseDigits(absl::string_view text) {
  T out = 0;
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  return digits && absl::SimpleAtoi(text, &out) ? std::optional<T>(out) : std::nullopt;
}

std::vector<uint32_t> Ids(const VmView& vm) {
  std::vector<uint32_t> out;
  for (const VcpuView& vcpu : vm.vcpus) out.push_back(vcpu.id);
  return out;
}

}  // namespace

std::optional<VmKey> ParseVmName(absl::string_view name) {
  const size_t dash = name.find('-');
  if (dash == absl::string_view::npos) return std::nullopt;
  const std::optional<int> pid = ParseDigits<int>(name.substr(0, dash));
  const std::optional<int> fd = ParseDigits<int>(name.substr(dash + 1));
  if (!pid || !fd) return std::nullopt;
  return VmKey{*pid, *fd};
}

std::optional<uint32_t> ParseVcpuName(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, "vcpu")) return std::nullopt;
  return ParseDigits<uint32_t>(name);
}

std::optional<uint64_t> ParseTicks(absl::string_view text) {
  // A text without its newline may have been cut off.
  if (!absl::ConsumeSuffix(&text, "\n")) return std::nullopt;
  if (!absl::ConsumePrefix(&text, "-")) return ParseDigits<uint64_t>(text);
  const std::optional<uint64_t> magnitude = ParseDigits<uint64_t>(text);
  if (!magnitude || *magnitude > uint64_t{1} << 63) return std::nullopt;
  return 0 - *magnitude;
}

uint64_t PhaseSpreadTicks(const VmView& vm) {
  int64_t lowest = 0;
  int64_t highest = 0;
  for (const VcpuView& vcpu : vm.vcpus) {
    const auto ahead = static_cast<int64_t>(vcpu.offset_ticks - vm.vcpus.front().offset_ticks);
    lowest = std::min(lowest, ahead);
    highest = std::max(highest, ahead);
  }
  return static_cast<uint64_t>(highest) - static_cast<uint64_t>(lowest);
}

bool IsInPhase(const VmView& vm) {
  return std::all_of(vm.vcpus.begin(), vm.vcpus.end(), [&vm](const VcpuView& vcpu) {
    const VcpuView& first = vm.vcpus.front();
    return vcpu.offset_ticks == first.offset_ticks && vcpu.ratio == first.ratio &&
           vcpu.ratio_frac_bits == first.ratio_frac_bits;
  });
}

bool IsScaled(const VmView& vm) {
  constexpr uint32_t kRatioBits = 64;
  return std::any_of(vm.vcpus.begin(), vm.vcpus.end(), [](const VcpuView& vcpu) {
    if (!vcpu.ratio || !vcpu.ratio_frac_bits) return false;
    // One of another kernel than is known: no ratio can be 1 then.
    if (*vcpu.ratio_frac_bits >= kRatioBits) return true;
    return *vcpu.ratio != uint64_t{1} << *vcpu.ratio_frac_bits;
  });
}

std::vector<SpreadChange> CompareViews(const HostView& before, const HostView& after) {
  std::vector<SpreadChange> out;
  for (const auto& [key, now] : after) {
    const auto then = before.find(key);
    if (then == before.end() || !then->second.steady || !now.steady) continue;
    if (Ids(then->second) != Ids(now)) continue;
    const SpreadChange change = {key, PhaseSpreadTicks(then->second), PhaseSpreadTicks(now)};
    if (change.before_ticks != change.after_ticks) out.push_back(change);
  }
  return out;
}

}  // namespace tsc_handoff::observe
