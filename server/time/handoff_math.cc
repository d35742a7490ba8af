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

using int128 = __int128;
using uint128 = unsigned __int128;

constexpr int64_t kNsPerSecond = 1'000'000'000;
// Both references are in whole ns.
constexpr int64_t kReferenceRoundingNs = 2;

std::string Human(int64_t ns) { return absl::FormatDuration(absl::Nanoseconds(ns)); }

int64_t Saturate(int128 value) {
  constexpr int128 kMax = std::numeric_limits<int64_t>::max();
  constexpr int128 kMin = std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(std::clamp(value, kMin, kMax));
}

// W_dst - W_src, on the TAI scale where both hosts know it: CLOCK_REALTIME repeats or skips a
// second at a leap second.
int64_t ElapsedNs(const TimeReference& source, const TimeReference& destination, bool use_tai) {
  int128 elapsed = int128{destination.realtime_ns} - source.realtime_ns;
  if (use_tai) elapsed += (int128{destination.tai_offset_s} - source.tai_offset_s) * kNsPerSecond;
  return Saturate(elapsed);
}

absl::Status CheckTrusted(const TimeReference& reference, absl::string_view side) {
  if (reference.clock_trusted) return absl::OkStatus();
  return Error(Reason::kClockUntrusted,
               absl::StrCat("the ", side, " host's clock is not known to be synchronised"),
               {{"side", std::string(side)}});
}

absl::Status CheckElapsed(int64_t elapsed_ns, int64_t max_elapsed_ns) {
  if (elapsed_ns < 0) {
    return Error(Reason::kTimeWouldGoBack,
                 absl::StrCat("by the two hosts' clocks the state was captured ",
                              absl::FormatDuration(-absl::Nanoseconds(elapsed_ns)),
                              " in the future, so guest time would go back"),
                 {{"elapsed_ns", absl::StrCat(elapsed_ns)}});
  }
  if (elapsed_ns > max_elapsed_ns) {
    return Error(
        Reason::kElapsedOutOfRange,
        absl::StrCat("the state was captured ", Human(elapsed_ns), " ago, the limit is ",
                     Human(max_elapsed_ns)),
        {{"elapsed_ns", absl::StrCat(elapsed_ns)}, {"limit", absl::StrCat(max_elapsed_ns)}});
  }
  return absl::OkStatus();
}

// E = E_src + E_dst + |elapsed| * rate uncertainty + rounding. A guest that KVM does not scale ran
// at its source host's rate, not at guest_khz; that difference is part of the rate uncertainty.
ErrorBound MakeBound(const TscState& state, const TimeReference& destination, int64_t elapsed_ns,
                     uint32_t rate_uncertainty_ppm) {
  ErrorBound bound;
  bound.source_read_ns = state.reference->read_error_ns;
  bound.destination_read_ns = destination.read_error_ns;
  bound.source_clock_ns = state.reference->clock_error_ns;
  bound.destination_clock_ns = destination.clock_error_ns;
  uint64_t ppm = rate_uncertainty_ppm;
  const uint32_t source_khz = state.reference->host_tsc_khz;
  if (WithinKvmTolerance(source_khz, state.guest_khz)) {
    const auto [lower_khz, higher_khz] = std::minmax(source_khz, state.guest_khz);
    ppm += DifferencePpm(higher_khz, lower_khz);
  }
  bound.rate_ns = Saturate((int128{elapsed_ns} * static_cast<int64_t>(ppm) + 999'999) / 1'000'000);
  // elapsed_ticks is rounded down by less than a tick, which on a slow guest is many ns.
  bound.rounding_ns =
      kReferenceRoundingNs + (1'000'000 + int64_t{state.guest_khz} - 1) / state.guest_khz;
  return bound;
}

absl::Status CheckBound(const ErrorBound& bound, int64_t max_error_ns) {
  if (bound.total_ns() <= max_error_ns) return absl::OkStatus();
  return Error(
      Reason::kClockBoundExceeded,
      absl::StrCat("guest time could be wrong by up to ", Human(bound.total_ns()),
                   " (source clock ", Human(bound.source_clock_ns), ", destination clock ",
                   Human(bound.destination_clock_ns), ", rate ", Human(bound.rate_ns),
                   ", readings ",
                   Human(Saturate(int128{bound.source_read_ns} + bound.destination_read_ns)),
                   "); the limit is ", Human(max_error_ns)),
      {{"error_bound_ns", absl::StrCat(bound.total_ns())}, {"limit", absl::StrCat(max_error_ns)}});
}

// Fills elapsed time and bound, or says why guest time cannot be moved on.
absl::Status PlanElapsed(const TscState& state, const TimeReference& destination,
                         const ApplyPolicy& policy, ApplyPlan& plan) {
  if (!state.reference.has_value()) {
    return Error(Reason::kStateWithoutTime,
                 "the state has no time reference, so the time since its capture is unknown");
  }
  absl::Status trusted = CheckTrusted(*state.reference, "source");
  trusted.Update(CheckTrusted(destination, "destination"));
  if (!trusted.ok() && !policy.allow_untrusted_clock) return trusted;
  plan.accepted_untrusted_clock = !trusted.ok();
  plan.used_tai = state.reference->tai_offset_s != 0 && destination.tai_offset_s != 0;
  plan.elapsed_ns = ElapsedNs(*state.reference, destination, plan.used_tai);
  if (absl::Status status = CheckElapsed(plan.elapsed_ns, policy.max_elapsed_ns); !status.ok())
    return status;
  plan.elapsed_ticks = NsToTicks(plan.elapsed_ns, state.guest_khz);
  if (plan.accepted_untrusted_clock) return absl::OkStatus();
  plan.bound = MakeBound(state, destination, plan.elapsed_ns, policy.rate_uncertainty_ppm);
  return CheckBound(*plan.bound, policy.max_error_ns);
}

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

int64_t ErrorBound::total_ns() const {
  return Saturate(int128{source_read_ns} + destination_read_ns + source_clock_ns +
                  destination_clock_ns + rate_ns + rounding_ns);
}

uint64_t NsToTicks(int64_t ns, uint32_t khz) {
  return static_cast<uint64_t>(static_cast<uint128>(ns) * khz / 1'000'000);
}

int64_t TicksToNs(int64_t ticks, uint32_t khz) { return Saturate(int128{ticks} * 1'000'000 / khz); }

uint32_t DifferencePpm(uint32_t a, uint32_t b) {
  const uint64_t difference = a > b ? a - b : b - a;
  const uint64_t ppm = (difference * 1'000'000 + b - 1) / b;
  return static_cast<uint32_t>(std::min<uint64_t>(ppm, std::numeric_limits<uint32_t>::max()));
}

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
                                    const TscScaling& destination_scaling,
                                    const ApplyPolicy& policy) {
  ApplyPlan plan;
  if (policy.mode == ApplyMode::kElapsed) {
    if (absl::Status status = PlanElapsed(state, destination, policy, plan); !status.ok())
      return status;
  }
  plan.vcpus = state.vcpus;
  if (policy.equalise) Equalise(plan.vcpus);
  const uint64_t host_ticks = destination_scaling.Scale(destination.host_tsc_ticks);
  plan.offsets.reserve(plan.vcpus.size());
  for (VcpuTsc& vcpu : plan.vcpus) {
    vcpu.guest_tsc_ticks += plan.elapsed_ticks;
    plan.offsets.push_back({vcpu.id, vcpu.guest_tsc_ticks - host_ticks});
  }
  plan.kvmclock = state.kvmclock;
  if (plan.kvmclock.has_value())
    plan.kvmclock->kvmclock_ns += static_cast<uint64_t>(plan.elapsed_ns);
  return plan;
}

}  // namespace tsc_handoff::time
