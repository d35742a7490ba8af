#include "server/state/tsc_state_codec.h"

#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/state/random_state.h"

namespace tsc_handoff::state {
namespace {

namespace v1 = ::tschandoff::v1;
using time::TscState;
using time::VcpuTsc;

constexpr uint64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
constexpr uint64_t kMaxUint64 = std::numeric_limits<uint64_t>::max();

// CRC-32 (ISO-HDLC) bit by bit: not the library that the codec uses.
uint32_t PlainCrc32(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

v1::TscState Seal(const std::string& payload, uint32_t version = 1) {
  std::string seed(4, '\0');
  for (int i = 0; i < 4; ++i) seed[static_cast<size_t>(i)] = static_cast<char>(version >> (8 * i));
  v1::TscState sealed;
  sealed.set_format_version(version);
  sealed.set_payload(payload);
  sealed.set_crc32(PlainCrc32(seed + payload));
  return sealed;
}

v1::TscStatePayload ValidPayload() {
  v1::TscStatePayload payload;
  payload.set_vm_id("vm-1");
  payload.mutable_reference()->set_host_tsc_ticks(1000);
  payload.mutable_reference()->set_realtime_ns(1'700'000'000'000'000'000);
  payload.mutable_reference()->set_tai_offset_s(37);
  payload.mutable_reference()->set_read_error_ns(50);
  payload.mutable_reference()->set_clock_error_ns(400'000);
  payload.mutable_reference()->set_clock_trusted(true);
  payload.mutable_reference()->set_host_tsc_khz(2'600'000);
  payload.mutable_reference()->set_method(v1::TimeReference::METHOD_BRACKETED);
  payload.set_guest_tsc_khz(2'600'000);
  payload.set_vcpu_count(3);
  for (uint64_t ticks : {10, 20, 30}) payload.add_guest_tsc_ticks(ticks);
  payload.mutable_kvmclock()->set_kvmclock_ns(5);
  payload.mutable_kvmclock()->set_read_error_ns(20);
  return payload;
}

absl::StatusOr<TscState> DecodeEdited(const std::function<void(v1::TscStatePayload&)>& edit) {
  v1::TscStatePayload payload = ValidPayload();
  edit(payload);
  return Decode(Seal(payload.SerializeAsString()));
}

TscState DenseState(uint32_t vcpus) {
  TscState state;
  state.vm_id = "vm-with-a-name-of-32-characters-";
  state.reference = time::TimeReference{.host_tsc_ticks = 1ull << 60,
                                        .realtime_ns = 1'700'000'000'000'000'000,
                                        .tai_offset_s = 37,
                                        .read_error_ns = 50,
                                        .clock_error_ns = 400'000,
                                        .clock_trusted = true,
                                        .host_tsc_khz = 2'600'000};
  state.guest_khz = 2'600'000;
  state.boot_id = std::string(16, 'b');
  state.kvmclock = time::KvmClockValue{.kvmclock_ns = 1ull << 50, .read_error_ns = 20};
  for (uint32_t id = 0; id < vcpus; ++id) state.vcpus.push_back({.id = id, .guest_tsc_ticks = 77});
  return state;
}

void ExpectSame(const TscState& a, const TscState& b) {
  EXPECT_EQ(a.vm_id, b.vm_id);
  EXPECT_EQ(a.guest_khz, b.guest_khz);
  EXPECT_EQ(a.boot_id, b.boot_id);
  ASSERT_EQ(a.reference.has_value(), b.reference.has_value());
  if (a.reference.has_value()) {
    EXPECT_EQ(a.reference->host_tsc_ticks, b.reference->host_tsc_ticks);
    EXPECT_EQ(a.reference->realtime_ns, b.reference->realtime_ns);
    EXPECT_EQ(a.reference->tai_offset_s, b.reference->tai_offset_s);
    EXPECT_EQ(a.reference->read_error_ns, b.reference->read_error_ns);
    EXPECT_EQ(a.reference->clock_error_ns, b.reference->clock_error_ns);
    EXPECT_EQ(a.reference->clock_trusted, b.reference->clock_trusted);
    EXPECT_EQ(a.reference->host_tsc_khz, b.reference->host_tsc_khz);
    EXPECT_EQ(a.reference->method, b.reference->method);
  }
  ASSERT_EQ(a.kvmclock.has_value(), b.kvmclock.has_value());
  if (a.kvmclock.has_value()) {
    EXPECT_EQ(a.kvmclock->kvmclock_ns, b.kvmclock->kvmclock_ns);
    EXPECT_EQ(a.kvmclock->read_error_ns, b.kvmclock->read_error_ns);
    EXPECT_EQ(a.kvmclock->master_clock, b.kvmclock->master_clock);
  }
  ASSERT_EQ(a.vcpus.size(), b.vcpus.size());
  for (size_t i = 0; i < a.vcpus.size(); ++i) {
    ASSERT_EQ(a.vcpus[i].id, b.vcpus[i].id) << i;
    ASSERT_EQ(a.vcpus[i].guest_tsc_ticks, b.vcpus[i].guest_tsc_ticks) << i;
    ASSERT_EQ(a.vcpus[i].tsc_adjust_ticks, b.vcpus[i].tsc_adjust_ticks) << i;
    ASSERT_EQ(a.vcpus[i].tsc_deadline_ticks, b.vcpus[i].tsc_deadline_ticks) << i;
  }
}

TEST(TscStateCodecTest, RoundTripKeepsEveryBit) {
  RandomState states(20211);
  for (int i = 0; i < 400; ++i) {
    const TscState state = states.Next();
    const v1::TscState sealed = Encode(state);
    const absl::StatusOr<TscState> opened = Decode(sealed);
    ASSERT_TRUE(opened.ok()) << i << ": " << opened.status();
    ExpectSame(state, *opened);
    // What is written twice is the same twice, so that a repeated request can be recognised.
    EXPECT_EQ(Encode(*opened).SerializeAsString(), sealed.SerializeAsString());
    if (HasFailure()) FAIL() << "state number " << i;
  }
}

TEST(TscStateCodecTest, ColumnsAreWrittenInTheirShortestForm) {
  TscState state = DenseState(3);
  const auto payload_of = [](const TscState& from) {
    v1::TscStatePayload payload;
    EXPECT_TRUE(payload.ParseFromString(Encode(from).payload()));
    return payload;
  };
  v1::TscStatePayload payload = payload_of(state);
  EXPECT_EQ(payload.vcpu_id_gap_size(), 0);
  EXPECT_EQ(payload.guest_tsc_ticks_size(), 1);
  EXPECT_EQ(payload.tsc_adjust_ticks_size(), 0);
  EXPECT_EQ(payload.tsc_deadline_ticks_size(), 0);

  for (VcpuTsc& vcpu : state.vcpus) {
    vcpu.guest_tsc_ticks = 0;
    vcpu.tsc_adjust_ticks = kMaxUint64;
    vcpu.tsc_deadline_ticks = 9;
  }
  payload = payload_of(state);
  EXPECT_EQ(payload.guest_tsc_ticks_size(), 1) << "a guest TSC of 0 is a value, not an absence";
  ASSERT_EQ(payload.tsc_adjust_ticks_size(), 1);
  EXPECT_EQ(payload.tsc_adjust_ticks(0), -1);
  EXPECT_EQ(payload.tsc_deadline_ticks_size(), 1);

  state.vcpus[2] = {
      .id = 200, .guest_tsc_ticks = 1, .tsc_adjust_ticks = 0, .tsc_deadline_ticks = 0};
  payload = payload_of(state);
  EXPECT_EQ(std::vector<uint32_t>(payload.vcpu_id_gap().begin(), payload.vcpu_id_gap().end()),
            (std::vector<uint32_t>{0, 0, 198}));
  EXPECT_EQ(payload.guest_tsc_ticks_size(), 3);
  EXPECT_EQ(payload.tsc_adjust_ticks_size(), 3);
  EXPECT_EQ(payload.tsc_deadline_ticks_size(), 3);
}

TEST(TscStateCodecTest, SizesAreThosePromised) {
  // About 100 bytes with a VM id of a few characters; here it has 32.
  constexpr size_t kHeader = 136;
  EXPECT_LE(Encode(DenseState(1)).ByteSizeLong(), kHeader);
  for (const uint32_t vcpus : {2u, 8u, 64u, 256u, 1024u}) {
    TscState state = DenseState(vcpus);
    EXPECT_LE(Encode(state).ByteSizeLong(), kHeader + 4 * vcpus);
    std::mt19937_64 random(vcpus);
    for (VcpuTsc& vcpu : state.vcpus) {
      vcpu.guest_tsc_ticks = random();
      vcpu.tsc_adjust_ticks = random();
      vcpu.tsc_deadline_ticks = random();
    }
    EXPECT_LE(Encode(state).ByteSizeLong(), kHeader + 24 * vcpus);
    // The worst ids: one byte more for each, two where a gap is above 127.
    for (VcpuTsc& vcpu : state.vcpus) vcpu.id = 3 * vcpu.id + 1;
    const v1::TscState sealed = Encode(state);
    EXPECT_LE(sealed.ByteSizeLong(), kHeader + 25 * vcpus);
    EXPECT_LE(sealed.payload().size(), kMaxPayloadBytes);
    EXPECT_TRUE(Decode(sealed).ok());
  }
}

TEST(TscStateCodecTest, EverySingleFlippedBitIsRefused) {
  TscState state = DenseState(2);
  state.vcpus[1].guest_tsc_ticks = 78;
  const std::string sealed = Encode(state).SerializeAsString();
  for (size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
    std::string damaged = sealed;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    v1::TscState parsed;
    if (!parsed.ParseFromString(damaged)) continue;  // gRPC refuses it before the codec
    const absl::StatusOr<TscState> opened = Decode(parsed);
    ASSERT_FALSE(opened.ok()) << "bit " << bit;
    const auto reason = ReasonOf(opened.status());
    EXPECT_TRUE(reason == Reason::kStateCorrupt || reason == Reason::kStateVersionUnsupported)
        << "bit " << bit;
  }
}

TEST(TscStateCodecTest, ATruncatedPayloadIsRefused) {
  const v1::TscState sealed = Encode(DenseState(2));
  for (size_t length = 0; length < sealed.payload().size(); ++length) {
    v1::TscState cut = sealed;
    cut.mutable_payload()->resize(length);
    EXPECT_EQ(ReasonOf(Decode(cut).status()), Reason::kStateCorrupt) << length;
    // Even under a right checksum nothing is made up for what is missing, and nothing crashes.
    const absl::StatusOr<TscState> resealed = Decode(Seal(cut.payload()));
    EXPECT_TRUE(!resealed.ok() || !resealed->vcpus.empty());
  }
}

TEST(TscStateCodecTest, AnotherVersionIsRefusedWhateverItsChecksum) {
  const std::string payload = Encode(DenseState(2)).payload();
  for (const uint32_t version : {0u, 2u, 3u, 0x80000001u, ~0u}) {
    const absl::Status status = Decode(Seal(payload, version)).status();
    EXPECT_EQ(ReasonOf(status), Reason::kStateVersionUnsupported) << version;
    EXPECT_EQ(MetadataOf(status)["field"], "format_version");
    EXPECT_EQ(MetadataOf(status)["found"], absl::StrCat(version));
  }
}

TEST(TscStateCodecTest, TheChecksumCoversTheVersion) {
  v1::TscState sealed = Seal(ValidPayload().SerializeAsString(), 2);
  sealed.set_format_version(1);
  EXPECT_EQ(MetadataOf(Decode(sealed).status())["field"], "crc32");
}

TEST(TscStateCodecTest, FieldsThatVersionOneDoesNotHaveAreNotIgnored) {
  const auto reason_with = [](const std::function<void(v1::TscStatePayload&)>& edit) {
    return ReasonOf(DecodeEdited(edit).status());
  };
  const auto add = [](google::protobuf::Message& message) {
    message.GetReflection()->MutableUnknownFields(&message)->AddVarint(99, 1);
  };
  EXPECT_EQ(reason_with([&](auto& p) { add(p); }), Reason::kStateVersionUnsupported);
  EXPECT_EQ(reason_with([&](auto& p) { add(*p.mutable_reference()); }),
            Reason::kStateVersionUnsupported);
  EXPECT_EQ(reason_with([&](auto& p) { add(*p.mutable_kvmclock()); }),
            Reason::kStateVersionUnsupported);
}

struct BadField {
  const char* name;
  const char* field;    // in the metadata
  const char* message;  // part of the text
  std::function<void(v1::TscStatePayload&)> edit;
};

class TscStateCodecBadFieldTest : public testing::TestWithParam<BadField> {};

TEST_P(TscStateCodecBadFieldTest, IsRefusedByName) {
  ASSERT_TRUE(DecodeEdited([](auto&) {}).ok());
  const absl::Status status = DecodeEdited(GetParam().edit).status();
  EXPECT_EQ(ReasonOf(status), Reason::kStateCorrupt) << status;
  EXPECT_EQ(MetadataOf(status)["field"], GetParam().field);
  EXPECT_NE(std::string(status.message()).find(GetParam().message), std::string::npos) << status;
}

using P = v1::TscStatePayload;

INSTANTIATE_TEST_SUITE_P(
    Fields, TscStateCodecBadFieldTest,
    testing::Values(
        BadField{"VmIdEmpty", "vm_id", "has 0 characters", [](P& p) { p.clear_vm_id(); }},
        BadField{"VmIdLong", "vm_id", "has 129 characters",
                 [](P& p) { p.set_vm_id(std::string(129, 'a')); }},
        BadField{"VmIdSlash", "vm_id", "characters other than", [](P& p) { p.set_vm_id("a/b"); }},
        BadField{"VmIdNul", "vm_id", "characters other than",
                 [](P& p) { p.set_vm_id(std::string("a\0b", 3)); }},
        BadField{"VmIdNotUtf8", "payload", "is not a TscStatePayload",
                 [](P& p) { p.set_vm_id("a\xff"); }},
        BadField{"RealtimeZero", "reference.realtime_ns", "is 0",
                 [](P& p) { p.mutable_reference()->set_realtime_ns(0); }},
        BadField{"RealtimeAboveInt64", "reference.realtime_ns", "is 9223372036854775808",
                 [](P& p) { p.mutable_reference()->set_realtime_ns(kMaxInt64 + 1); }},
        BadField{"TaiOffsetAboveLimit", "reference.tai_offset_s", "is 1001, not 0 to 1000",
                 [](P& p) { p.mutable_reference()->set_tai_offset_s(1001); }},
        BadField{"ReadErrorAboveInt64", "reference.read_error_ns", "is 18446744073709551615",
                 [](P& p) { p.mutable_reference()->set_read_error_ns(kMaxUint64); }},
        BadField{"ClockErrorAboveInt64", "reference.clock_error_ns", "is 9223372036854775808",
                 [](P& p) { p.mutable_reference()->set_clock_error_ns(kMaxInt64 + 1); }},
        BadField{"HostKhzZero", "reference.host_tsc_khz", "is 0",
                 [](P& p) { p.mutable_reference()->set_host_tsc_khz(0); }},
        BadField{"MethodUnspecified", "reference.method", "is 0, which is no method",
                 [](P& p) { p.mutable_reference()->clear_method(); }},
        BadField{"MethodUnknown", "reference.method", "is 3, which is no method",
                 [](P& p) {
                   p.mutable_reference()->set_method(static_cast<v1::TimeReference::Method>(3));
                 }},
        BadField{"GuestKhzZero", "guest_tsc_khz", "is 0", [](P& p) { p.set_guest_tsc_khz(0); }},
        BadField{"NoVcpus", "vcpu_count", "is 0, not 1 to 1024", [](P& p) { p.set_vcpu_count(0); }},
        BadField{"TooManyVcpus", "vcpu_count", "is 1025, not 1 to 1024",
                 [](P& p) { p.set_vcpu_count(1025); }},
        BadField{"HugeVcpuCount", "vcpu_count", "is 4294967295",
                 [](P& p) { p.set_vcpu_count(~0u); }},
        BadField{"TooFewGaps", "vcpu_id_gap", "has 1 entries for 3 vCPUs",
                 [](P& p) { p.add_vcpu_id_gap(0); }},
        BadField{"TooManyGaps", "vcpu_id_gap", "has 4 entries for 3 vCPUs",
                 [](P& p) { p.mutable_vcpu_id_gap()->Resize(4, 0); }},
        BadField{"IdTooHigh", "vcpu_id_gap", "gives vCPU number 2 the id 4096, above 4095",
                 [](P& p) {
                   p.mutable_vcpu_id_gap()->Resize(3, 0);
                   p.set_vcpu_id_gap(2, 4094);
                 }},
        BadField{"IdWouldWrap", "vcpu_id_gap", "gives vCPU number 1 the id 4294967296, above 4095",
                 [](P& p) {
                   p.mutable_vcpu_id_gap()->Resize(3, 0);
                   p.set_vcpu_id_gap(1, ~0u);
                 }},
        BadField{"NoGuestTsc", "guest_tsc_ticks", "has 0 entries for 3 vCPUs",
                 [](P& p) { p.clear_guest_tsc_ticks(); }},
        BadField{"TooFewGuestTscs", "guest_tsc_ticks", "has 2 entries for 3 vCPUs",
                 [](P& p) { p.mutable_guest_tsc_ticks()->Resize(2, 0); }},
        BadField{"TooManyGuestTscs", "guest_tsc_ticks", "has 4 entries for 3 vCPUs",
                 [](P& p) { p.mutable_guest_tsc_ticks()->Resize(4, 0); }},
        BadField{"TooFewAdjusts", "tsc_adjust_ticks", "has 2 entries for 3 vCPUs",
                 [](P& p) { p.mutable_tsc_adjust_ticks()->Resize(2, 7); }},
        BadField{"TooManyDeadlines", "tsc_deadline_ticks", "has 4 entries for 3 vCPUs",
                 [](P& p) { p.mutable_tsc_deadline_ticks()->Resize(4, 7); }},
        BadField{"KvmClockErrorAboveInt64", "kvmclock.read_error_ns", "is 9223372036854775808",
                 [](P& p) { p.mutable_kvmclock()->set_read_error_ns(kMaxInt64 + 1); }},
        BadField{"BootIdShort", "boot_id", "has 15 bytes",
                 [](P& p) { p.set_boot_id(std::string(15, 'x')); }},
        BadField{"BootIdLong", "boot_id", "has 17 bytes",
                 [](P& p) { p.set_boot_id(std::string(17, 'x')); }}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(TscStateCodecTest, ValuesAtTheLimitsAreAccepted) {
  const absl::StatusOr<TscState> state = DecodeEdited([](P& p) {
    p.set_vm_id(std::string(128, ':'));
    p.mutable_reference()->set_realtime_ns(kMaxInt64);
    p.mutable_reference()->set_tai_offset_s(1000);
    p.mutable_reference()->set_read_error_ns(kMaxInt64);
    p.mutable_reference()->set_clock_error_ns(kMaxInt64);
    p.mutable_reference()->set_host_tsc_khz(~0u);
    p.set_guest_tsc_khz(~0u);
    p.mutable_vcpu_id_gap()->Resize(3, 0);
    p.set_vcpu_id_gap(2, 4093);
    p.mutable_guest_tsc_ticks()->Resize(1, 0);
    p.mutable_kvmclock()->set_kvmclock_ns(kMaxUint64);
  });
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->vcpus[2].id, 4095u);
  EXPECT_EQ(state->vcpus[2].guest_tsc_ticks, 10u) << "one entry stands for all";
}

TEST(TscStateCodecTest, AnEmptyAndAnOversizedPayloadAreRefused) {
  for (const size_t size : {size_t{0}, kMaxPayloadBytes + 1}) {
    const absl::Status status = Decode(Seal(std::string(size, '\0'))).status();
    EXPECT_EQ(ReasonOf(status), Reason::kStateCorrupt);
    EXPECT_EQ(MetadataOf(status)["field"], "payload");
  }
}

TEST(TscStateCodecTest, ReferenceAndKvmclockMayBeAbsent) {
  const absl::StatusOr<TscState> state = DecodeEdited([](P& p) {
    p.clear_reference();
    p.clear_kvmclock();
  });
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_FALSE(state->reference.has_value());
  EXPECT_FALSE(state->kvmclock.has_value());
}

// A state file kept for months. Made by another program than this codec; must be read alike for
// ever.
constexpr char kGoldenHex[] =
    "0801151a1f5b8d1aa1010a1064622d372e70726f643a626c75655f31122309efcdab89674523011115cde41eab"
    "550a181825203d28a8ec1d300138bed89e01400118c0d89e0120032a040001c701321800ffffffffffffff1000"
    "00000000000000000000000000803a18000000000000000078ecffffffffffff000000000000004042089a7856"
    "34120000004a0b08f4e6a3a6df1c102118015210f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

TEST(TscStateCodecTest, AKeptStateFileIsReadForEver) {
  v1::TscState sealed;
  ASSERT_TRUE(sealed.ParseFromString(absl::HexStringToBytes(kGoldenHex)));
  const absl::StatusOr<TscState> state = Decode(sealed);
  ASSERT_TRUE(state.ok()) << state.status();
  TscState expected;
  expected.vm_id = "db-7.prod:blue_1";
  expected.reference = time::TimeReference{.host_tsc_ticks = 0x0123456789abcdef,
                                           .realtime_ns = 1'732'291'200'123'456'789,
                                           .tai_offset_s = 37,
                                           .read_error_ns = 61,
                                           .clock_error_ns = 489'000,
                                           .clock_trusted = true,
                                           .host_tsc_khz = 2'599'998};
  expected.guest_khz = 2'600'000;
  expected.vcpus = {{0, 0xffffffffffffff00, 0, 0x123456789a},
                    {2, 0x10, static_cast<uint64_t>(-5000), 0x123456789a},
                    {202, 0x8000000000000000, 1ull << 62, 0x123456789a}};
  expected.kvmclock = time::KvmClockValue{
      .kvmclock_ns = 987'654'321'012, .read_error_ns = 33, .master_clock = true};
  expected.boot_id = absl::HexStringToBytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
  ExpectSame(*state, expected);
  EXPECT_EQ(absl::BytesToHexString(Encode(expected).SerializeAsString()), kGoldenHex);
}

}  // namespace
}  // namespace tsc_handoff::state
