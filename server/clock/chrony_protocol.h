// The one question that is put to chronyd, in its monitoring protocol (version 6, as of chrony 2 to
// 4): TRACKING. Requests and answers are datagrams of 104 bytes, all integers big-endian; see
// candm.h in chrony's source. (chronyd drops a request that is shorter than its answer.)
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_CLOCK_CHRONY_PROTOCOL_H_
#define TSC_HANDOFF_SERVER_CLOCK_CHRONY_PROTOCOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::clock {

inline constexpr size_t kChronyPacketBytes = 104;
// What chronyd sends has 24 significant bits, rounded; so a number is off by less than this ratio.
inline constexpr double kChronyFloatResolution = 1.0 / (1 << 23);

// Of chronyd's answer, what is used, as it was sent. Seconds are true seconds; offsets may have
// either sign. Whether the values make sense is for ReportFromTracking to say.
struct ChronyTracking {
  uint32_t reference_id = 0;
  uint16_t stratum = 0;
  uint16_t leap_status = 0;  // 0 none, 1 insert, 2 delete, 3 not synchronised
  // CLOCK_REALTIME of the last update, less a random part of up to a second, with which chronyd
  // guards itself; not negative. It moves along, a little, when chronyd slews the clock.
  int64_t reference_ns = 0;
  double correction_s = 0;   // what is still to be slewed away
  double frequency_ppm = 0;  // by how much the uncorrected oscillator is fast
  double root_delay_s = 0;
  double root_dispersion_s = 0;
  double update_interval_s = 0;  // between the last two updates, 0 before the second
};

using ChronyRequest = std::array<char, kChronyPacketBytes>;

// `sequence` comes back in the answer.
ChronyRequest EncodeTrackingRequest(uint32_t sequence);

// The sequence number of the request that a datagram answers; nullopt when it is too short to have
// one.
std::optional<uint32_t> ReplySequence(absl::string_view datagram);

// An error unless the datagram is an answer of exactly the right form to the request of that
// sequence number: its length, and every byte of its header, which chronyd leaves no choice in.
// Errors, without a Reason, are one sentence that says what to do: PermissionDenied when chronyd
// refuses, Unimplemented when it speaks another version, else DataLoss.
absl::StatusOr<ChronyTracking> ParseTrackingReply(absl::string_view datagram, uint32_t sequence);

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_CHRONY_PROTOCOL_H_
