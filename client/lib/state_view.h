// StateView: a TscState opened for showing and checking, by the agents' own codec. To move a state
// nothing of this is needed: hand it on as it is.
//
// Threading: values and pure functions.
#ifndef TSC_HANDOFF_CLIENT_LIB_STATE_VIEW_H_
#define TSC_HANDOFF_CLIENT_LIB_STATE_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tschandoff/v1/tsc_state.pb.h"

namespace tsc_handoff::client {

struct VcpuView {
  uint32_t id = 0;
  uint64_t guest_tsc_ticks = 0;
  int64_t tsc_adjust_ticks = 0;
  // 0 is disarmed.
  uint64_t tsc_deadline_ticks = 0;
};

struct StateView {
  uint32_t format_version = 0;
  // The VM it was read from.
  std::string vm_id;
  // Absent: only EXACT mode can apply it.
  std::optional<tschandoff::v1::TimeReference> reference;
  uint32_t guest_tsc_khz = 0;
  // Ascending ids, at least one.
  std::vector<VcpuView> vcpus;
  std::optional<tschandoff::v1::KvmClock> kvmclock;
  // 16 bytes, or empty.
  std::string boot_id;
};

// Opens a state. DATA_LOSS with reason STATE_CORRUPT when its checksum or its content is wrong,
// FAILED_PRECONDITION with STATE_VERSION_UNSUPPORTED when this library is too old for it.
absl::StatusOr<StateView> DecodeState(const tschandoff::v1::TscState& sealed);

// a - b as the shortest way round the 2^64 circle.
int64_t TickDifference(uint64_t a_ticks, uint64_t b_ticks);

// Largest |difference| of two vCPUs' guest TSCs, in ticks.
uint64_t PhaseSpreadTicks(const StateView& state);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_STATE_VIEW_H_
