#include "server/clock/chrony_protocol.h"

#include <cstdint>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "server/clock/chrony_reply.h"

namespace tsc_handoff::clock {
namespace {

constexpr uint32_t kSequence = 0x01020304;
constexpr size_t kHeaderBytes = 28;

std::string Zeros(size_t bytes) { return std::string(bytes, '\0'); }

// As chronyc 4.3 sent it, with another sequence number.
TEST(EncodeTrackingRequestTest, IsWhatChronycSends) {
  const ChronyRequest request = EncodeTrackingRequest(0x69141260);
  const std::string expected =
      absl::HexStringToBytes("060100000021000069141260") + Zeros(kChronyPacketBytes - 12);
  EXPECT_EQ(std::string(request.data(), request.size()), expected);
}

// As chronyd 4.3 answered, when chronyc said (-c tracking): 7F000001, 127.0.0.1, 4,
// 1795484414.504647689, 0.000001064, ..., -0.484, ..., 0.000009610, 0.000135742, 2.0, Normal.
TEST(ParseTrackingReplyTest, UnderstandsWhatChronydSent) {
  const std::string reply = absl::HexStringToBytes(
      "06020000002100050000000000000000010203040000000000000000"
      "7f0000017f0000010000000000000000000000000001000000040000"
      "000000006b04eafe1e145009dc8db9a3ded2e19fded2e19f01086a24"
      "eec5a7cd0c9d145ee2a13aa3ea8dfc3106812fef");
  const auto tracking = ParseTrackingReply(reply, kSequence);
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_EQ(tracking->reference_id, 0x7f000001u);
  EXPECT_EQ(tracking->stratum, 4);
  EXPECT_EQ(tracking->leap_status, 0);
  EXPECT_EQ(tracking->reference_ns, 1'795'484'414'504'647'689);
  EXPECT_NEAR(tracking->correction_s, 1.064e-6, 10e-9) << "slewed between two questions";
  EXPECT_NEAR(tracking->frequency_ppm, -0.484, 1e-3);
  EXPECT_NEAR(tracking->root_delay_s, 9.610e-6, 1e-9);
  EXPECT_NEAR(tracking->root_dispersion_s, 135.742e-6, 1e-6) << "grows between two questions";
  EXPECT_NEAR(tracking->update_interval_s, 2.0, 0.1);
}

TEST(ParseTrackingReplyTest, UnderstandsAChronydThatFollowsItsOwnClock) {
  const std::string reply = absl::HexStringToBytes(
                                "06020000002100050000000000000000010203040000000000000000"
                                "7f7f01010000000000000000000000000000000000000000"
                                "00030000000000006b04eaf714ddde05") +
                            Zeros(36);
  const auto tracking = ParseTrackingReply(reply, kSequence);
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_EQ(tracking->reference_id, 0x7f7f0101u);
  EXPECT_EQ(tracking->stratum, 3);
  EXPECT_EQ(tracking->reference_ns, 1'795'484'407'350'084'613);
  EXPECT_EQ(tracking->root_dispersion_s, 0);
}

TEST(ParseTrackingReplyTest, UnderstandsTimesOfThirtyTwoBits) {
  ChronyReply reply;
  reply.reference_s = uint64_t{0x7fffffff} << 32 | 1'700'000'000;
  const auto tracking = ParseTrackingReply(reply.Bytes(kSequence), kSequence);
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_EQ(tracking->reference_ns, 1'700'000'000'250'000'000);
}

TEST(ParseTrackingReplyTest, RefusesEveryOtherLength) {
  const std::string reply = ChronyReply().Bytes(kSequence);
  ASSERT_EQ(reply.size(), kChronyPacketBytes);
  for (size_t bytes = 0; bytes <= 2 * kChronyPacketBytes; ++bytes) {
    std::string datagram = reply;
    datagram.resize(bytes);
    EXPECT_EQ(ParseTrackingReply(datagram, kSequence).ok(), bytes == kChronyPacketBytes) << bytes;
  }
}

TEST(ParseTrackingReplyTest, RefusesEveryOtherHeader) {
  const std::string reply = ChronyReply().Bytes(kSequence);
  for (size_t bit = 0; bit < 8 * kHeaderBytes; ++bit) {
    std::string datagram = reply;
    datagram[bit / 8] = static_cast<char>(datagram[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(ParseTrackingReply(datagram, kSequence).ok()) << "bit " << bit;
  }
}

struct Refused {
  const char* name;
  ChronyReply reply;
  absl::StatusCode code;
  const char* message;
};

class RefusedTest : public testing::TestWithParam<Refused> {};

TEST_P(RefusedTest, SaysWhatToDo) {
  const Refused& row = GetParam();
  const auto tracking = ParseTrackingReply(row.reply.Bytes(kSequence), kSequence);
  EXPECT_EQ(tracking.status().code(), row.code);
  EXPECT_NE(std::string(tracking.status().message()).find(row.message), std::string::npos)
      << tracking.status();
}

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedTest,
    testing::Values(
        Refused{"NotPermitted", {.status = 2}, absl::StatusCode::kPermissionDenied, "status 2"},
        Refused{"OlderVersion",
                {.version = 5, .status = 18},
                absl::StatusCode::kUnimplemented,
                "version 5"},
        Refused{"NewerVersion", {.version = 7}, absl::StatusCode::kUnimplemented, "version 7"},
        Refused{"NanosecondsBeyondASecond",
                {.reference_nanoseconds = 1'000'000'000},
                absl::StatusCode::kDataLoss,
                "last update"},
        Refused{"SecondsBeyondAllTime",
                {.reference_s = 9'000'000'001},
                absl::StatusCode::kDataLoss,
                "last update"},
        Refused{"NegativeSeconds",
                {.reference_s = ~uint64_t{0}},
                absl::StatusCode::kDataLoss,
                "last update"}),
    [](const auto& row) { return std::string(row.param.name); });

struct Number {
  const char* name;
  uint32_t bits;
  double value;
};

class NumberTest : public testing::TestWithParam<Number> {};

TEST_P(NumberTest, IsDecodedExactly) {
  std::string reply = ChronyReply().Bytes(kSequence);
  for (size_t i = 0; i < 4; ++i) reply[68 + i] = static_cast<char>(GetParam().bits >> (24 - 8 * i));
  const auto tracking = ParseTrackingReply(reply, kSequence);
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_EQ(tracking->correction_s, GetParam().value);
}

INSTANTIATE_TEST_SUITE_P(Table, NumberTest,
                         testing::Values(Number{"Zero", 0, 0}, Number{"One", 0x04800000, 1.0},
                                         Number{"MinusOne", 0x03000000, -1.0},
                                         Number{"Half", 0x02800000, 0.5},
                                         Number{"Smallest", 0x80000001, 0x1p-89},
                                         Number{"SmallestNegative", 0x81ffffff, -0x1p-89},
                                         Number{"Largest", 0x7effffff, 0x1.fffffep+61},
                                         Number{"LargestNegative", 0x7f000000, -0x1p+62}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(ReplySequenceTest, IsThereAsSoonAsItsBytesAre) {
  const std::string reply = ChronyReply().Bytes(kSequence);
  EXPECT_EQ(ReplySequence(reply), kSequence);
  EXPECT_EQ(ReplySequence(absl::string_view(reply).substr(0, 20)), kSequence);
  EXPECT_EQ(ReplySequence(absl::string_view(reply).substr(0, 19)), std::nullopt);
  EXPECT_EQ(ReplySequence(""), std::nullopt);
}

TEST(ParseTrackingReplyTest, RandomBytesAreNoAnswer) {
  std::mt19937_64 random(20231115);
  for (int i = 0; i < 100'000; ++i) {
    std::string datagram(random() % 200, '\0');
    for (char& byte : datagram) byte = static_cast<char>(random());
    EXPECT_FALSE(ParseTrackingReply(datagram, kSequence).ok());
  }
}

}  // namespace
}  // namespace tsc_handoff::clock
