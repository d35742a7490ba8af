#include "server/peer/clock_claim.h"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace tsc_handoff::peer {
namespace {

namespace v1 = tschandoff::v1;
using clock::ClockQuality;
using clock::ClockStatus;

constexpr int64_t kRealtimeNs = 1'700'000'000'000'000'000;
constexpr uint64_t kMaxUint64 = std::numeric_limits<uint64_t>::max();

ClockQuality Trusted() {
  ClockQuality quality;
  quality.status = ClockStatus::kSynchronised;
  quality.trusted = true;
  quality.error_bound_ns = 250'000;
  quality.age_ns = 1'500'000'000;
  quality.tai_offset_s = 37;
  quality.leap_second = true;
  quality.source = "chrony";
  return quality;
}

ClockQuality Untrusted(ClockStatus status) {
  ClockQuality quality;
  quality.status = status;
  quality.age_ns = 7;
  quality.tai_offset_s = 1000;
  quality.source = "kernel";
  quality.untrusted_reason = "it follows nothing";
  return quality;
}

TEST(ToProtoTest, SaysAllThereIs) {
  const v1::ClockInfo info = ToProto(Trusted(), kRealtimeNs);
  EXPECT_TRUE(info.trusted());
  EXPECT_EQ(info.error_bound_ns(), 250'000u);
  EXPECT_EQ(info.source(), "chrony");
  EXPECT_EQ(info.tai_offset_s(), 37u);
  EXPECT_EQ(info.untrusted_reason(), "");
  EXPECT_EQ(info.status(), v1::ClockInfo::STATUS_SYNCHRONISED);
  EXPECT_EQ(info.age_ns(), 1'500'000'000u);
  EXPECT_TRUE(info.leap_second());
  EXPECT_EQ(info.realtime_ns(), kRealtimeNs);
}

TEST(ToProtoTest, StatusesAreThoseOfTheApi) {
  struct Row {
    ClockStatus status;
    v1::ClockInfo::Status expected;
  };
  for (const Row& row : {Row{ClockStatus::kUnknown, v1::ClockInfo::STATUS_UNSPECIFIED},
                         Row{ClockStatus::kSynchronised, v1::ClockInfo::STATUS_SYNCHRONISED},
                         Row{ClockStatus::kFreeRunning, v1::ClockInfo::STATUS_FREE_RUNNING},
                         Row{ClockStatus::kDisrupted, v1::ClockInfo::STATUS_DISRUPTED}}) {
    EXPECT_EQ(ToProto(Untrusted(row.status), 1).status(), row.expected);
  }
}

TEST(ClaimFromProtoTest, GivesBackWhatWasSaid) {
  ClockQuality free_running = Trusted();
  free_running.status = ClockStatus::kFreeRunning;
  free_running.leap_second = false;
  for (const ClockQuality& quality :
       {ClockQuality(), Trusted(), free_running, Untrusted(ClockStatus::kUnknown),
        Untrusted(ClockStatus::kFreeRunning), Untrusted(ClockStatus::kSynchronised),
        Untrusted(ClockStatus::kDisrupted)}) {
    const ClockQuality claim = ClaimFromProto(ToProto(quality, kRealtimeNs));
    EXPECT_EQ(claim.status, quality.status);
    EXPECT_EQ(claim.trusted, quality.trusted);
    EXPECT_EQ(claim.error_bound_ns, quality.error_bound_ns);
    EXPECT_EQ(claim.age_ns, quality.age_ns);
    EXPECT_EQ(claim.tai_offset_s, quality.tai_offset_s);
    EXPECT_EQ(claim.leap_second, quality.leap_second);
    EXPECT_EQ(claim.source, quality.source);
    EXPECT_EQ(claim.untrusted_reason, quality.untrusted_reason);
  }
}

struct Nonsense {
  const char* name;
  std::function<void(v1::ClockInfo&)> change;
};

class NonsenseTest : public testing::TestWithParam<Nonsense> {};

TEST_P(NonsenseTest, MakesTheClaimUntrusted) {
  v1::ClockInfo info = ToProto(Trusted(), kRealtimeNs);
  ASSERT_TRUE(ClaimFromProto(info).trusted);
  GetParam().change(info);
  const ClockQuality claim = ClaimFromProto(info);
  EXPECT_FALSE(claim.trusted);
  EXPECT_EQ(claim.error_bound_ns, 0);
  EXPECT_NE(claim.untrusted_reason.find("makes no sense"), std::string::npos)
      << claim.untrusted_reason;
  // What is passed on of it is within its range.
  EXPECT_GE(claim.age_ns, 0);
  EXPECT_GE(claim.tai_offset_s, 0);
  EXPECT_LE(claim.tai_offset_s, 1000);
  EXPECT_TRUE(v1::ClockInfo::Status_IsValid(static_cast<int>(claim.status)));
}

INSTANTIATE_TEST_SUITE_P(
    Table, NonsenseTest,
    testing::Values(
        Nonsense{"ABoundOfZero", [](v1::ClockInfo& claim) { claim.set_error_bound_ns(0); }},
        Nonsense{"ABoundOfCenturies",
                 [](v1::ClockInfo& claim) { claim.set_error_bound_ns(kMaxUint64 / 2); }},
        Nonsense{"TheLargestBound",
                 [](v1::ClockInfo& claim) { claim.set_error_bound_ns(kMaxUint64); }},
        Nonsense{"AnAgeOfCenturies",
                 [](v1::ClockInfo& claim) { claim.set_age_ns(kMaxUint64 / 2); }},
        Nonsense{"TheLargestAge", [](v1::ClockInfo& claim) { claim.set_age_ns(kMaxUint64); }},
        Nonsense{"ATaiOffsetAboveTheLimit",
                 [](v1::ClockInfo& claim) { claim.set_tai_offset_s(1001); }},
        Nonsense{"TheLargestTaiOffset",
                 [](v1::ClockInfo& claim) {
                   claim.set_tai_offset_s(std::numeric_limits<uint32_t>::max());
                 }},
        Nonsense{
            "AStatusThatDoesNotExist",
            [](v1::ClockInfo& claim) { claim.set_status(static_cast<v1::ClockInfo::Status>(17)); }},
        Nonsense{
            "ANegativeStatus",
            [](v1::ClockInfo& claim) { claim.set_status(static_cast<v1::ClockInfo::Status>(-1)); }},
        Nonsense{"TrustInAnUnknownClock",
                 [](v1::ClockInfo& claim) { claim.set_status(v1::ClockInfo::STATUS_UNSPECIFIED); }},
        Nonsense{"TrustInADisruptedClock",
                 [](v1::ClockInfo& claim) { claim.set_status(v1::ClockInfo::STATUS_DISRUPTED); }}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(ClaimFromProtoTest, AnUntrustedClocksBoundIsIgnored) {
  v1::ClockInfo info = ToProto(Untrusted(ClockStatus::kUnknown), kRealtimeNs);
  info.set_error_bound_ns(1);
  const ClockQuality claim = ClaimFromProto(info);
  EXPECT_FALSE(claim.trusted);
  EXPECT_EQ(claim.error_bound_ns, 0);
  EXPECT_EQ(claim.untrusted_reason, "it follows nothing");
}

TEST(ClaimFromProtoTest, LongTextsAreCutBetweenCharacters) {
  struct Row {
    std::string text;
    size_t length;
  };
  const std::string two_bytes = "\xc3\xa4";
  const std::string four_bytes = "\xf0\x9f\x95\x90";
  for (const Row& row :
       {Row{"", 0}, Row{std::string(256, 'x'), 256}, Row{std::string(257, 'x'), 256},
        Row{std::string(10'000, 'x'), 256}, Row{std::string(254, 'x') + two_bytes + "x", 256},
        Row{std::string(255, 'x') + two_bytes, 255},
        Row{std::string(252, 'x') + four_bytes + "x", 256},
        Row{std::string(253, 'x') + four_bytes, 253},
        Row{std::string(255, 'x') + four_bytes, 255}}) {
    v1::ClockInfo info;
    info.set_source(row.text);
    info.set_untrusted_reason(row.text);
    const ClockQuality claim = ClaimFromProto(info);
    EXPECT_EQ(claim.source, row.text.substr(0, row.length));
    EXPECT_EQ(claim.untrusted_reason, row.text.substr(0, row.length));
    v1::ClockInfo passed_on;
    EXPECT_TRUE(passed_on.ParseFromString(ToProto(claim, kRealtimeNs).SerializeAsString()))
        << "a client could not read it";
  }
}

}  // namespace
}  // namespace tsc_handoff::peer
