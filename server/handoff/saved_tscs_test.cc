#include "server/handoff/saved_tscs.h"

#include <gtest/gtest.h>

namespace tsc_handoff::handoff {
namespace {

SavedTscs Some() {
  SavedTscs saved;
  saved.vcpus = {{0, 2'000'000, 17, 0, 0}, {5, 2'000'000, ~uint64_t{0}, 9, 11}};
  saved.kvmclock.kvmclock_ns = 123;
  saved.kvmclock.flags = 14;
  return saved;
}

TEST(SavedTscsTest, WhatWasSerialisedIsParsed) {
  const auto parsed = ParseSavedTscs(Serialise(Some()));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(Serialise(*parsed), Serialise(Some()));
  EXPECT_TRUE(SameOffsets(parsed->vcpus, Some().vcpus));
  EXPECT_EQ(parsed->kvmclock.kvmclock_ns, 123u);
  EXPECT_EQ(parsed->vcpus[1].tsc_deadline_ticks, 11u);
}

TEST(SavedTscsTest, NothingButThatIsParsed) {
  const std::string good = Serialise(Some());
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(ParseSavedTscs(good.substr(0, size)).has_value()) << size;
  EXPECT_FALSE(ParseSavedTscs(good + "x").has_value());
  std::string newer = good;
  ++newer[0];
  EXPECT_FALSE(ParseSavedTscs(newer).has_value());
  EXPECT_FALSE(ParseSavedTscs(Serialise({})).has_value()) << "no vCPUs";
}

TEST(SavedTscsTest, OffsetsAreComparedByVcpuAndCount) {
  const auto vcpus = Some().vcpus;
  auto other = vcpus;
  other[1].tsc_adjust_ticks = 0;
  EXPECT_TRUE(SameOffsets(vcpus, other)) << "an offset's own matter";
  other[1].tsc_offset_ticks = 1;
  EXPECT_FALSE(SameOffsets(vcpus, other));
  other = vcpus;
  other[1].vcpu_id = 6;
  EXPECT_FALSE(SameOffsets(vcpus, other));
  other = vcpus;
  other.pop_back();
  EXPECT_FALSE(SameOffsets(vcpus, other));
}

}  // namespace
}  // namespace tsc_handoff::handoff
