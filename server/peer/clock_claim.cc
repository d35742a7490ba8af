#include "server/peer/clock_claim.h"

#include <algorithm>
#include <limits>
#include <string>

namespace tsc_handoff::peer {
namespace {

namespace v1 = tschandoff::v1;

constexpr size_t kMaxText = 256;
constexpr uint32_t kMaxTaiOffsetS = 1000;
constexpr uint64_t kMaxNs = std::numeric_limits<int64_t>::max() / 4;

// Not within a character: half of one is no UTF-8, which proto3 wants.
std::string Cut(const std::string& text) {
  size_t length = std::min(text.size(), kMaxText);
  constexpr unsigned char kContinuationMask = 0xc0;
  constexpr unsigned char kContinuation = 0x80;
  while (length > 0 && length < text.size() &&
         (static_cast<unsigned char>(text[length]) & kContinuationMask) == kContinuation)
    --length;
  return text.substr(0, length);
}

bool MakesSense(const v1::ClockInfo& info) {
  if (!v1::ClockInfo::Status_IsValid(info.status()) || info.tai_offset_s() > kMaxTaiOffsetS ||
      info.age_ns() > kMaxNs)
    return false;
  if (!info.trusted()) return true;
  const bool may_be_trusted = info.status() == v1::ClockInfo::STATUS_SYNCHRONISED ||
                              info.status() == v1::ClockInfo::STATUS_FREE_RUNNING;
  return may_be_trusted && info.error_bound_ns() > 0 && info.error_bound_ns() <= kMaxNs;
}

}  // namespace

v1::ClockInfo ToProto(const clock::ClockQuality& quality, int64_t realtime_ns) {
  v1::ClockInfo info;
  info.set_trusted(quality.trusted);
  info.set_error_bound_ns(static_cast<uint64_t>(quality.error_bound_ns));
  info.set_source(quality.source);
  info.set_tai_offset_s(static_cast<uint32_t>(quality.tai_offset_s));
  info.set_untrusted_reason(quality.untrusted_reason);
  info.set_status(static_cast<v1::ClockInfo::Status>(quality.status));
  info.set_age_ns(static_cast<uint64_t>(quality.age_ns));
  info.set_leap_second(quality.leap_second);
  info.set_realtime_ns(realtime_ns);
  return info;
}

clock::ClockQuality ClaimFromProto(const v1::ClockInfo& info) {
  clock::ClockQuality quality;
  quality.source = Cut(info.source());
  quality.untrusted_reason = Cut(info.untrusted_reason());
  quality.leap_second = info.leap_second();
  if (!MakesSense(info)) {
    quality.untrusted_reason = "what it claims of its clock makes no sense";
    return quality;
  }
  quality.status = static_cast<clock::ClockStatus>(info.status());
  quality.tai_offset_s = static_cast<int32_t>(info.tai_offset_s());
  quality.age_ns = static_cast<int64_t>(info.age_ns());
  quality.trusted = info.trusted();
  if (quality.trusted) quality.error_bound_ns = static_cast<int64_t>(info.error_bound_ns());
  return quality;
}

}  // namespace tsc_handoff::peer
