#include "client/lib/state_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "client/lib/rpc_error.h"
#include "client/lib/testing/seal_state.h"

namespace tsc_handoff::client {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::HasSubstr;

v1::TscStatePayload GoodPayload() {
  v1::TscStatePayload payload;
  payload.set_vm_id("vm1");
  payload.set_guest_tsc_khz(2'100'000);
  payload.set_vcpu_count(3);
  payload.add_guest_tsc_ticks(1000);
  return payload;
}

TEST(StateViewTest, OneEntryStandsForAllVcpus) {
  const absl::StatusOr<StateView> view = DecodeState(SealState(GoodPayload()));
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_EQ(view->vcpus.size(), 3u);
  EXPECT_EQ(view->vcpus[2].id, 2u);
  EXPECT_EQ(view->vcpus[2].guest_tsc_ticks, 1000u);
  EXPECT_EQ(view->vcpus[2].tsc_adjust_ticks, 0);
  EXPECT_FALSE(view->reference.has_value());
  EXPECT_EQ(PhaseSpreadTicks(*view), 0u);
}

TEST(StateViewTest, SparseIdsAndOwnValuesComeOut) {
  v1::TscStatePayload payload = GoodPayload();
  payload.mutable_vcpu_id_gap()->Add(0);
  payload.mutable_vcpu_id_gap()->Add(4);
  payload.mutable_vcpu_id_gap()->Add(0);
  payload.clear_guest_tsc_ticks();
  for (const uint64_t tsc : {uint64_t{5}, std::numeric_limits<uint64_t>::max(), uint64_t{7}}) {
    payload.add_guest_tsc_ticks(tsc);
  }
  payload.add_tsc_adjust_ticks(-9);
  const absl::StatusOr<StateView> view = DecodeState(SealState(payload));
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->vcpus[1].id, 5u);
  EXPECT_EQ(view->vcpus[2].id, 6u);
  EXPECT_EQ(view->vcpus[1].guest_tsc_ticks, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(view->vcpus[2].tsc_adjust_ticks, -9);
  // From -1 to 7 across the wrap.
  EXPECT_EQ(PhaseSpreadTicks(*view), 8u);
}

TEST(StateViewTest, EveryDamagedByteIsRefused) {
  const v1::TscState good = SealState(GoodPayload());
  for (size_t i = 0; i < good.payload().size(); ++i) {
    v1::TscState bad = good;
    (*bad.mutable_payload())[i] ^= 1;
    EXPECT_EQ(ReasonOf(DecodeState(bad).status()), v1::STATE_CORRUPT) << "byte " << i;
  }
}

// Bytes written by hand and a checksum from Python's zlib, so that both ends cannot be wrong
// together.
TEST(StateViewTest, ChecksumIsZlibsOverVersionAndPayload) {
  v1::TscState state;
  state.set_format_version(1);
  // vm_id "a", guest_tsc_khz 1, vcpu_count 1, guest_tsc_ticks {2}.
  state.set_payload(
      std::string("\x0a\x01"
                  "a\x18\x01\x20\x01\x32\x08\x02\0\0\0\0\0\0\0",
                  17));
  state.set_crc32(0x7d669e51);
  const absl::StatusOr<StateView> view = DecodeState(state);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->vcpus[0].guest_tsc_ticks, 2u);
}

TEST(StateViewTest, AnotherVersionIsRefusedByName) {
  const absl::Status newer = DecodeState(SealState(GoodPayload(), 2)).status();
  EXPECT_EQ(ReasonOf(newer), v1::STATE_VERSION_UNSUPPORTED);
  EXPECT_THAT(std::string(newer.message()), HasSubstr("version 2; this client knows version 1"));
  EXPECT_THAT(NextStepOf(newer), HasSubstr("client at least as new"));
  EXPECT_EQ(ReasonOf(DecodeState(v1::TscState()).status()), v1::STATE_VERSION_UNSUPPORTED);
}

// The codec's own tests go through every field; here it counts that its reason arrives.
TEST(StateViewTest, ContradictionIsRefusedWithItsReason) {
  v1::TscStatePayload payload = GoodPayload();
  payload.add_guest_tsc_ticks(1);
  const absl::Status status = DecodeState(SealState(payload)).status();
  EXPECT_EQ(ReasonOf(status), v1::STATE_CORRUPT);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 entries for 3 vCPUs"));
  EXPECT_NE(NextStepOf(status), "");
}

TEST(StateViewTest, TickDifferenceGoesTheShortWay) {
  EXPECT_EQ(TickDifference(2, 5), -3);
  EXPECT_EQ(TickDifference(1, std::numeric_limits<uint64_t>::max()), 2);
}

}  // namespace
}  // namespace tsc_handoff::client
