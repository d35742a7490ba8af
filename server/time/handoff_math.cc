#include "server/time/handoff_math.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/error.h"

namespace tsc_handoff::time {
namespace {

// Gives all vCPUs the value that is furthest ahead, so that none goes back.
void Equalise(std::vector<VcpuTsc>& vcpus) {
  if (vcpus.empty()) return;
  uint64_t ahead = vcpus.front().guest_tsc_ticks;
  for (const VcpuTsc& vcpu : vcpus) {
    if (static_cast<int64_t>(vcpu.guest_tsc_ticks - ahead) > 0) ahead = vcpu.guest_tsc_ticks;
  }
  for (VcpuTsc& vcpu : vcpus) vcpu.guest_tsc_ticks = ahead;
}

}  // namespace

uint64_t GuestTsc(const TscScaling& scaling, uint64_t host_tsc_ticks, uint64_t offset_ticks) {
  return scaling.Scale(host_tsc_ticks) + offset_ticks;
}

uint64_t PhaseSpreadTicks(const std::vector<uint64_t>& guest_tsc_ticks) {
  int64_t lowest = 0;
  int64_t highest = 0;
  for (uint64_t value : guest_tsc_ticks) {
    const auto distance = static_cast<int64_t>(value - guest_tsc_ticks.front());
    lowest = std::min(lowest, distance);
    highest = std::max(highest, distance);
  }
  return static_cast<uint64_t>(highest) - static_cast<uint64_t>(lowest);
}

uint64_t PhaseErrorTicks(const std::vector<uint64_t>& before_ticks,
                         const std::vector<uint64_t>& after_ticks) {
  std::vector<uint64_t> moved(before_ticks.size());
  for (size_t i = 0; i < before_ticks.size(); ++i) moved[i] = after_ticks[i] - before_ticks[i];
  return PhaseSpreadTicks(moved);
}

absl::StatusOr<ApplyPlan> PlanApply(const TscState& state, const TimeReference& destination,
                                    const TscScaling& destination_scaling, const Elapsed& elapsed,
                                    bool equalise) {
  if (absl::Status status = CheckTimeHasPassed(elapsed); !status.ok()) return status;
  ApplyPlan plan;
  plan.elapsed = elapsed;
  plan.vcpus = state.vcpus;
  if (equalise) Equalise(plan.vcpus);
  const uint64_t host_ticks = destination_scaling.Scale(destination.host_tsc_ticks);
  plan.offsets.reserve(plan.vcpus.size());
  for (VcpuTsc& vcpu : plan.vcpus) {
    vcpu.guest_tsc_ticks += elapsed.elapsed_ticks;
    plan.offsets.push_back({vcpu.id, vcpu.guest_tsc_ticks - host_ticks});
  }
  plan.kvmclock = state.kvmclock;
  if (plan.kvmclock.has_value())
    plan.kvmclock->kvmclock_ns += static_cast<uint64_t>(elapsed.elapsed_ns);
  return plan;
}

}  // namespace tsc_handoff::time
