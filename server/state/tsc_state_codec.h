// Between time::TscState and its sealed form on the wire (tsc_state.proto): checks version,
// checksum and every field.
//
// Pure functions. Decode never trusts its input: what it returns is complete and consistent.
#ifndef TSC_HANDOFF_SERVER_STATE_TSC_STATE_CODEC_H_
#define TSC_HANDOFF_SERVER_STATE_TSC_STATE_CODEC_H_

#include "absl/status/statusor.h"
#include "server/time/tsc_state.h"
#include "tschandoff/v1/tsc_state.pb.h"

namespace tsc_handoff::state {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr size_t kMaxPayloadBytes = 256 * 1024;

// Seals a state. REQUIRES: 1 to 1024 vCPUs, ids strictly ascending and below 4096.
tschandoff::v1::TscState Encode(const time::TscState& state);

// Opens a sealed state.
// Errors: kStateVersionUnsupported (version), kStateCorrupt (checksum, malformed or contradictory
// payload).
absl::StatusOr<time::TscState> Decode(const tschandoff::v1::TscState& sealed);

// The wire form of a reference, also used in replies.
tschandoff::v1::TimeReference ToProto(const time::TimeReference& reference);

// The wire form of a ticket, also used in requests and replies. FromProto's errors: kStateCorrupt.
tschandoff::v1::HandoffTicket ToProto(const time::HandoffTicket& ticket);
absl::StatusOr<time::HandoffTicket> FromProto(const tschandoff::v1::HandoffTicket& proto);

}  // namespace tsc_handoff::state

#endif  // TSC_HANDOFF_SERVER_STATE_TSC_STATE_CODEC_H_
