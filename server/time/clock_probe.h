// What four timestamps tell of two hosts' clocks. A probe is one call from this host ("local") to
// another one ("peer"), with a reading of the clocks at each end of each way:
//
//     local   sent ----.                       .--> received
//     peer             '--> received   sent ---'
//
// A message cannot arrive before it was sent. That bounds the difference of any two clocks from
// both sides, however asymmetric the ways are and whatever the hosts claim; the shorter the round
// trip, the tighter. All rounds of a probe hold at once, so their intervals are intersected.
//
// Pure: no I/O, no clock.
#ifndef TSC_HANDOFF_SERVER_TIME_CLOCK_PROBE_H_
#define TSC_HANDOFF_SERVER_TIME_CLOCK_PROBE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace tsc_handoff::time {

// A host's TSC and wall clock at one instant; the wall clock's within +-read_error_ns.
struct ClockStamp {
  uint64_t host_tsc_ticks = 0;
  int64_t realtime_ns = 0;
  int64_t read_error_ns = 0;
};

struct ProbeRound {
  ClockStamp sent;           // local, before the request left
  ClockStamp peer_received;  // peer, after it had arrived
  ClockStamp peer_sent;      // peer, before the answer left
  ClockStamp received;       // local, after it had arrived
};

// What all rounds of a probe say together.
struct ClockProbe {
  // When this host's TSC read local_tsc_ticks, the peer's read peer_tsc_ticks plus lower_ns to
  // upper_ns of its time.
  uint64_t local_tsc_ticks = 0;
  uint64_t peer_tsc_ticks = 0;
  uint32_t local_khz = 0;
  uint32_t peer_khz = 0;
  int64_t lower_ns = 0;
  int64_t upper_ns = 0;

  // This host's CLOCK_REALTIME minus the peer's, in the round that bounds it best: wall_offset_ns
  // +- wall_offset_error_ns.
  int64_t wall_offset_ns = 0;
  int64_t wall_offset_error_ns = 0;

  int64_t round_trip_ns = 0;  // the shortest, without the peer's own time
  uint32_t rounds = 0;
  int64_t duration_ns = 0;  // from the first request to the last answer
};

// Intersects the rounds, which are in the order of time. `rate_ppm`: by how much each host's rate
// may be off while the probe lasts.
// Errors: kPeerUnreachable when no round makes sense (its end before its beginning);
// kClocksDisagree when the rounds exclude each other, which is a TSC that jumped meanwhile.
// REQUIRES: khz > 0.
absl::StatusOr<ClockProbe> CombineRounds(const std::vector<ProbeRound>& rounds, uint32_t local_khz,
                                         uint32_t peer_khz, uint32_t rate_ppm);

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_CLOCK_PROBE_H_
