// The one question that is put to chronyd, in its monitoring protocol (version 6, as of chrony 2 to
// 4): TRACKING. Requests and answers are datagrams of 104 bytes, all integers big-endian; see
// candm.h in chrony's source.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CHRONY_PROTOCOL_H_
#define TSC_HANDOFF_SERVER_CLOCK_CHRONY_PROTOCOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/clock/clock_source.h"

namespace tsc_handoff::clock {

inline constexpr size_t kChronyPacketBytes = 104;

// Of chronyd's answer, what is used. Seconds are true seconds; offsets may have either sign.
struct ChronyTracking {
  uint32_t reference_id = 0;
  uint16_t stratum = 0;
  uint16_t leap_status = 0;  // 0 none, 1 insert, 2 delete, 3 not synchronised
  int64_t reference_ns = 0;  // CLOCK_REALTIME of the last update
  double correction_s = 0;   // what is still to be slewed away
  double frequency_ppm = 0;
  double root_delay_s = 0;
  double root_dispersion_s = 0;
  double update_interval_s = 0;  // between the last two updates
};

using ChronyRequest = std::array<char, kChronyPacketBytes>;

// `sequence` comes back in the answer.
ChronyRequest EncodeTrackingRequest(uint32_t sequence);

// nullopt unless the datagram is an answer of exactly the right form to the request of that
// sequence number; then it is somebody else's, late or damaged.
std::optional<ChronyTracking> ParseTrackingReply(absl::string_view datagram, uint32_t sequence);

// What the answer says of the clock; `realtime_ns` is CLOCK_REALTIME when it arrived. Values that
// no clock has are kNoAnswer. Fills everything but update_id, TAI offset and the kernel's leap
// second.
SourceReport ReportFromTracking(const ChronyTracking& tracking, int64_t realtime_ns);

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_PROTOCOL_H_
