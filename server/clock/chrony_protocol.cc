#include "server/clock/chrony_protocol.h"

#include <cmath>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {
namespace {

constexpr uint8_t kVersion = 6;
constexpr uint8_t kRequestPacket = 1;
constexpr uint8_t kReplyPacket = 2;
constexpr uint16_t kTrackingCommand = 33;
constexpr uint16_t kTrackingReply = 5;
constexpr uint16_t kSuccess = 0;
constexpr uint16_t kBadVersion = 18;

// Where the fields are.
constexpr size_t kRequestSequence = 8;
constexpr size_t kReplyStatus = 8;
constexpr size_t kReplySequence = 16;
constexpr size_t kBody = 28;
constexpr size_t kReferenceId = kBody;
constexpr size_t kAddressFamily = kBody + 20;
constexpr size_t kAddressPadding = kBody + 22;
constexpr size_t kStratum = kBody + 24;
constexpr size_t kLeapStatus = kBody + 26;
constexpr size_t kReferenceTime = kBody + 28;
constexpr size_t kCorrection = kBody + 40;
constexpr size_t kFrequency = kBody + 52;
constexpr size_t kRootDelay = kBody + 64;
constexpr size_t kRootDispersion = kBody + 68;
constexpr size_t kUpdateInterval = kBody + 72;

// None, IPv4, IPv6, a number for a name that is not resolved yet.
constexpr uint16_t kLastAddressFamily = 3;
// What a chronyd with 32-bit times sends for their missing half.
constexpr uint32_t kNoHighSeconds = 0x7fffffff;
constexpr int64_t kNsPerSecond = 1'000'000'000;
// In 2255; int64 ns end in 2262.
constexpr uint64_t kLastSecond = 9'000'000'000;

void Put16(ChronyRequest& packet, size_t at, uint16_t value) {
  packet[at] = static_cast<char>(value >> 8);
  packet[at + 1] = static_cast<char>(value);
}

uint32_t Get(absl::string_view packet, size_t at, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; ++i)
    value = value << 8 | static_cast<unsigned char>(packet[at + i]);
  return value;
}

uint16_t Get16(absl::string_view packet, size_t at) {
  return static_cast<uint16_t>(Get(packet, at, 2));
}

uint32_t Get32(absl::string_view packet, size_t at) { return Get(packet, at, 4); }

// chrony's float: 7 bits of exponent, 25 of coefficient, both two's complement; the value is
// coefficient * 2^(exponent - 25). Never NaN nor infinite.
double GetFloat(absl::string_view packet, size_t at) {
  constexpr int kCoefficientBits = 25;
  const uint32_t bits = Get32(packet, at);
  // Shifts of signed values keep the sign.
  const int32_t exponent = static_cast<int32_t>(bits) >> kCoefficientBits;
  const int32_t coefficient = static_cast<int32_t>(bits << 7) >> 7;
  return std::ldexp(coefficient, exponent - kCoefficientBits);
}

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the answer ", what,
                                          ", as chronyd gives none; look which program listens "
                                          "there"));
}

// `datagram` is long enough for a header.
absl::Status CheckHeader(absl::string_view datagram, uint32_t sequence) {
  const bool padding_is_0 = Get16(datagram, 2) == 0 && Get16(datagram, 10) == 0 &&
                            Get32(datagram, 12) == 0 && Get32(datagram, 20) == 0 &&
                            Get32(datagram, 24) == 0;
  if (datagram[1] != kReplyPacket || Get16(datagram, 4) != kTrackingCommand || !padding_is_0 ||
      Get32(datagram, kReplySequence) != sequence)
    return Damaged("has a wrong header");
  const uint16_t status = Get16(datagram, kReplyStatus);
  if (datagram[0] != kVersion || status == kBadVersion) {
    return absl::UnimplementedError(
        absl::StrCat("it speaks version ", Get(datagram, 0, 1),
                     " of chronyd's monitoring protocol, and this agent version ", int{kVersion},
                     "; use another chrony, or --clock kernel"));
  }
  if (status != kSuccess) {
    return absl::PermissionDeniedError(absl::StrCat(
        "it refuses to tell how well it follows its sources (status ", status,
        "); permit it (opencommands tracking), or name its Unix socket (--clock chrony:PATH)"));
  }
  if (Get16(datagram, 6) != kTrackingReply) return Damaged("is to another question");
  return absl::OkStatus();
}

}  // namespace

ChronyRequest EncodeTrackingRequest(uint32_t sequence) {
  ChronyRequest packet = {};
  packet[0] = kVersion;
  packet[1] = kRequestPacket;
  Put16(packet, 4, kTrackingCommand);
  Put16(packet, kRequestSequence, static_cast<uint16_t>(sequence >> 16));
  Put16(packet, kRequestSequence + 2, static_cast<uint16_t>(sequence));
  return packet;
}

std::optional<uint32_t> ReplySequence(absl::string_view datagram) {
  if (datagram.size() < kReplySequence + sizeof(uint32_t)) return std::nullopt;
  return Get32(datagram, kReplySequence);
}

absl::StatusOr<ChronyTracking> ParseTrackingReply(absl::string_view datagram, uint32_t sequence) {
  // A refusal is a header without a body.
  if (datagram.size() >= kBody) {
    if (absl::Status status = CheckHeader(datagram, sequence); !status.ok()) return status;
  }
  if (datagram.size() != kChronyPacketBytes)
    return Damaged(absl::StrCat("has ", datagram.size(), " bytes"));
  if (Get16(datagram, kAddressFamily) > kLastAddressFamily || Get16(datagram, kAddressPadding) != 0)
    return Damaged("names its source by no address");
  const uint32_t high_seconds = Get32(datagram, kReferenceTime);
  const uint64_t seconds = (high_seconds == kNoHighSeconds ? 0 : uint64_t{high_seconds} << 32) |
                           Get32(datagram, kReferenceTime + 4);
  const uint32_t nanoseconds = Get32(datagram, kReferenceTime + 8);
  if (nanoseconds >= kNsPerSecond || seconds > kLastSecond)
    return Damaged("dates its last update at no time");
  ChronyTracking tracking;
  tracking.reference_id = Get32(datagram, kReferenceId);
  tracking.stratum = Get16(datagram, kStratum);
  tracking.leap_status = Get16(datagram, kLeapStatus);
  tracking.reference_ns = static_cast<int64_t>(seconds) * kNsPerSecond + nanoseconds;
  tracking.correction_s = GetFloat(datagram, kCorrection);
  tracking.frequency_ppm = GetFloat(datagram, kFrequency);
  tracking.root_delay_s = GetFloat(datagram, kRootDelay);
  tracking.root_dispersion_s = GetFloat(datagram, kRootDispersion);
  tracking.update_interval_s = GetFloat(datagram, kUpdateInterval);
  return tracking;
}

}  // namespace tsc_handoff::clock
