#include "server/clock/chrony_protocol.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr uint8_t kVersion = 6;
constexpr uint8_t kRequestPacket = 1;
constexpr uint8_t kReplyPacket = 2;
constexpr uint16_t kTrackingCommand = 33;
constexpr uint16_t kTrackingReply = 5;
constexpr uint16_t kSuccess = 0;

// Where the fields are.
constexpr size_t kRequestSequence = 8;
constexpr size_t kReplySequence = 16;
constexpr size_t kBody = 28;
constexpr size_t kReferenceId = kBody;
constexpr size_t kStratum = kBody + 24;
constexpr size_t kLeapStatus = kBody + 26;
constexpr size_t kReferenceTime = kBody + 28;
constexpr size_t kCorrection = kBody + 40;
constexpr size_t kFrequency = kBody + 52;
constexpr size_t kRootDelay = kBody + 64;
constexpr size_t kRootDispersion = kBody + 68;
constexpr size_t kUpdateInterval = kBody + 72;

constexpr uint16_t kLeapUnsynchronised = 3;
constexpr uint16_t kMaxStratum = 15;
// What chronyd calls its own clock: 127.127.1.1.
constexpr uint32_t kLocalReference = 0x7f7f0101;

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kMaxFutureNs = kNsPerSecond;
// NTP's own limit for what can be synchronised to; anything above is no bound worth having.
constexpr double kMaxPartS = 16;
constexpr double kMaxFrequencyPpm = 1e6;
constexpr double kMaxUpdateIntervalS = 1e7;

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

SourceReport Report(Word word, std::string problem) {
  SourceReport report;
  report.source = "chrony";
  report.word = word;
  report.problem = std::move(problem);
  return report;
}

SourceReport Absurd(absl::string_view what) {
  return Report(Word::kNoAnswer,
                absl::StrCat("chronyd answers with ", what, ", which makes no sense; restart it"));
}

bool IsDuration(double seconds) { return seconds >= 0 && seconds <= kMaxPartS; }

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

std::optional<ChronyTracking> ParseTrackingReply(absl::string_view datagram, uint32_t sequence) {
  if (datagram.size() != kChronyPacketBytes) return std::nullopt;
  if (datagram[0] != kVersion || datagram[1] != kReplyPacket || Get16(datagram, 2) != 0 ||
      Get16(datagram, 4) != kTrackingCommand || Get16(datagram, 6) != kTrackingReply ||
      Get16(datagram, 8) != kSuccess || Get32(datagram, kReplySequence) != sequence)
    return std::nullopt;
  const uint32_t nanoseconds = Get32(datagram, kReferenceTime + 8);
  const auto seconds = static_cast<int64_t>(uint64_t{Get32(datagram, kReferenceTime)} << 32 |
                                            Get32(datagram, kReferenceTime + 4));
  // Year 2262 is where int64 ns end.
  if (nanoseconds >= kNsPerSecond || seconds < 0 || seconds > 9'000'000'000) return std::nullopt;
  ChronyTracking tracking;
  tracking.reference_id = Get32(datagram, kReferenceId);
  tracking.stratum = Get16(datagram, kStratum);
  tracking.leap_status = Get16(datagram, kLeapStatus);
  tracking.reference_ns = seconds * kNsPerSecond + nanoseconds;
  tracking.correction_s = GetFloat(datagram, kCorrection);
  tracking.frequency_ppm = GetFloat(datagram, kFrequency);
  tracking.root_delay_s = GetFloat(datagram, kRootDelay);
  tracking.root_dispersion_s = GetFloat(datagram, kRootDispersion);
  tracking.update_interval_s = GetFloat(datagram, kUpdateInterval);
  return tracking;
}

SourceReport ReportFromTracking(const ChronyTracking& tracking, int64_t realtime_ns) {
  if (tracking.leap_status > kLeapUnsynchronised)
    return Absurd(absl::StrCat("leap status ", tracking.leap_status));
  if (tracking.reference_id == kLocalReference) {
    return Report(
        Word::kUnsynchronised,
        "chronyd follows nothing but its own clock (local); give it a source, or, if this "
        "host is the reference for all others, say so with --clock fixed:DURATION");
  }
  if (tracking.leap_status == kLeapUnsynchronised || tracking.stratum == 0 ||
      tracking.stratum > kMaxStratum) {
    return Report(Word::kUnsynchronised,
                  "chronyd says that the clock is not synchronised; look at its sources (chronyc "
                  "sources)");
  }
  if (!IsDuration(tracking.root_delay_s) || !IsDuration(tracking.root_dispersion_s) ||
      !IsDuration(std::abs(tracking.correction_s)))
    return Absurd("an offset, a root delay or a root dispersion that is negative or above 16 s");
  if (tracking.update_interval_s < 0 || tracking.update_interval_s > kMaxUpdateIntervalS ||
      std::abs(tracking.frequency_ppm) > kMaxFrequencyPpm)
    return Absurd("an update interval or a frequency out of range");
  if (tracking.reference_ns > realtime_ns + kMaxFutureNs || tracking.reference_ns == 0)
    return Absurd("a last update in the future, or at no time at all");
  const double bound_s =
      std::abs(tracking.correction_s) + tracking.root_dispersion_s + tracking.root_delay_s / 2;
  if (bound_s <= 0) return Absurd("an error of 0");
  SourceReport report = Report(Word::kSynchronised, "");
  report.error_bound_ns = static_cast<int64_t>(std::ceil(bound_s * kNsPerSecond));
  report.since_update_ns = std::max<int64_t>(realtime_ns - tracking.reference_ns, 0);
  report.update_interval_ns =
      static_cast<int64_t>(std::ceil(tracking.update_interval_s * kNsPerSecond));
  report.leap_second = tracking.leap_status != 0;
  report.frequency_correction = tracking.frequency_ppm * 1e-6;
  return report;
}

}  // namespace tsc_handoff::clock
