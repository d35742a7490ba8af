#include "client/lib/phase_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::client {

absl::StatusOr<PhaseChange> CheckPhase(const StateView& captured,
                                       const tschandoff::v1::SetTscStateResponse& applied,
                                       bool equalise) {
  const std::vector<VcpuView>& before = captured.vcpus;
  const auto& after = applied.vcpus();
  if (before.empty() || before.size() != static_cast<size_t>(after.size())) {
    return absl::InternalError(absl::StrCat("the destination reports ", after.size(), " vCPUs; ",
                                            before.size(), " were captured"));
  }
  PhaseChange change;
  const int64_t first_moved = TickDifference(after[0].guest_tsc_ticks(), before[0].guest_tsc_ticks);
  for (int i = 0; i < after.size(); ++i) {
    const VcpuView& was = before[static_cast<size_t>(i)];
    if (was.id != after[i].vcpu_id()) {
      return absl::InternalError(absl::StrCat("the destination reports vCPU ", after[i].vcpu_id(),
                                              " in the place of ", was.id));
    }
    const int64_t moved = TickDifference(after[i].guest_tsc_ticks(), was.guest_tsc_ticks);
    if (moved < 0) {
      return absl::InternalError(absl::StrCat("the TSC of vCPU ", was.id, " went from ",
                                              was.guest_tsc_ticks, " ticks back to ",
                                              after[i].guest_tsc_ticks()));
    }
    change.per_vcpu_ticks.push_back(moved - first_moved);
  }
  const auto [low, high] =
      std::minmax_element(change.per_vcpu_ticks.begin(), change.per_vcpu_ticks.end());
  change.largest_ticks = static_cast<uint64_t>(*high) - static_cast<uint64_t>(*low);
  if (change.largest_ticks != 0 && !equalise) {
    return absl::InternalError(
        absl::StrCat("the phase between the vCPUs changed by up to ", change.largest_ticks,
                     " ticks, though the destination's agent reports success"));
  }
  return change;
}

}  // namespace tsc_handoff::client
