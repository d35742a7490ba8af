// What a host says of its clock, between the core's values and ClockInfo.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_PEER_CLOCK_CLAIM_H_
#define TSC_HANDOFF_SERVER_PEER_CLOCK_CLAIM_H_

#include <cstdint>

#include "server/clock/clock_quality.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::peer {

tschandoff::v1::ClockInfo ToProto(const clock::ClockQuality& quality, int64_t realtime_ns);

// A peer's word: what is out of range makes the claim untrusted, texts are cut to 256
// bytes.
clock::ClockQuality ClaimFromProto(const tschandoff::v1::ClockInfo& info);

}  // namespace tsc_handoff::peer

#endif  // TSC_HANDOFF_SERVER_PEER_CLOCK_CLAIM_H_
