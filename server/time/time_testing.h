// What the tests of the time math start from: a state and a destination at round values.
#ifndef TSC_HANDOFF_SERVER_TIME_TIME_TESTING_H_
#define TSC_HANDOFF_SERVER_TIME_TIME_TESTING_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/statusor.h"
#include "server/time/elapsed.h"
#include "server/time/handoff_math.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::time {

inline constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
inline constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
inline constexpr int64_t kMs = 1'000'000;
inline constexpr int64_t kSecond = 1'000'000'000;
inline constexpr int64_t kNow = 1'700'000'000 * kSecond;
inline constexpr uint32_t kKhz = 2'600'000;

inline TimeReference At(int64_t realtime_ns, uint64_t host_tsc_ticks) {
  TimeReference reference;
  reference.host_tsc_ticks = host_tsc_ticks;
  reference.realtime_ns = realtime_ns;
  reference.tai_offset_s = 37;
  reference.read_error_ns = 40;
  reference.clock_error_ns = 100'000;
  reference.clock_trusted = true;
  reference.host_tsc_khz = kKhz;
  return reference;
}

inline TscState StateAt(int64_t realtime_ns, const std::vector<uint64_t>& guest_tsc_ticks) {
  TscState state;
  state.vm_id = "vm";
  state.reference = At(realtime_ns, 5'000'000);
  state.guest_khz = kKhz;
  for (const uint64_t ticks : guest_tsc_ticks) {
    state.vcpus.push_back(
        {.id = static_cast<uint32_t>(3 * state.vcpus.size()), .guest_tsc_ticks = ticks});
  }
  return state;
}

// Reckons and plans in one.
inline absl::StatusOr<ApplyPlan> Plan(const TscState& state, const TimeReference& destination,
                                      const TscScaling& scaling, const ApplyPolicy& policy,
                                      const ElapsedEvidence& evidence = {}) {
  auto elapsed = ReckonElapsed(state, destination, scaling, policy, evidence);
  if (!elapsed.ok()) return elapsed.status();
  return PlanApply(state, destination, scaling, *elapsed, policy.equalise);
}

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_TIME_TESTING_H_
