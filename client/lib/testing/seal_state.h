// SealState: any payload, good or bad, as a TscState whose checksum is right.
//
// Threading: a pure function.
#ifndef TSC_HANDOFF_CLIENT_LIB_TESTING_SEAL_STATE_H_
#define TSC_HANDOFF_CLIENT_LIB_TESTING_SEAL_STATE_H_

#include <cstdint>

#include "tschandoff/v1/tsc_state.pb.h"

namespace tsc_handoff::client {

// Written apart from the agents' codec, so that both cannot be wrong together.
tschandoff::v1::TscState SealState(const tschandoff::v1::TscStatePayload& payload,
                                   uint32_t format_version = 1);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_TESTING_SEAL_STATE_H_
