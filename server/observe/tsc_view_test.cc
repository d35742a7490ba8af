#include "server/observe/tsc_view.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::observe {
namespace {

constexpr uint64_t kHalf = uint64_t{1} << 63;

TEST(ParseTicks, Rows) {
  struct Row {
    std::string text;
    std::optional<uint64_t> ticks;
  };
  const Row rows[] = {
      {"0\n", 0},
      {"260000\n", 260000},
      {"-1\n", ~uint64_t{0}},
      {"-9223372036854775808\n", kHalf},
      {"18446744073709551615\n", ~uint64_t{0}},
      {"18446744073709551616\n", std::nullopt},
      {"-9223372036854775809\n", std::nullopt},
      {"26", std::nullopt},  // cut off
      {"", std::nullopt},
      {"\n", std::nullopt},
      {"-\n", std::nullopt},
      {"--1\n", std::nullopt},
      {"+1\n", std::nullopt},
      {" 1\n", std::nullopt},
      {"1 \n", std::nullopt},
      {"0x10\n", std::nullopt},
      {"1\n2\n", std::nullopt},
      {std::string("1\0\n", 3), std::nullopt},
  };
  for (const Row& row : rows) EXPECT_EQ(ParseTicks(row.text), row.ticks) << row.text;
}

TEST(ParseNames, Rows) {
  EXPECT_EQ(ParseVmName("70-10"), (VmKey{70, 10}));
  for (const char* name : {"", "-", "70", "70-", "-10", "70-10-1", "a-1", "70-x", "halt_exits",
                           "+7-1", "99999999999-1"}) {
    EXPECT_FALSE(ParseVmName(name)) << name;
  }
  EXPECT_EQ(ParseVcpuName("vcpu0"), 0u);
  EXPECT_EQ(ParseVcpuName("vcpu4095"), 4095u);
  for (const char* name : {"", "vcpu", "vcpux", "vcpu-1", "cpu0", "vcpu0x", "vcpu 1"}) {
    EXPECT_FALSE(ParseVcpuName(name)) << name;
  }
}

VmView Vm(const std::vector<uint64_t>& offsets) {
  VmView out;
  for (uint64_t offset : offsets)
    out.vcpus.push_back({static_cast<uint32_t>(out.vcpus.size()), offset, {}, {}});
  return out;
}

TEST(PhaseSpread, Rows) {
  struct Row {
    std::vector<uint64_t> offsets;
    uint64_t spread_ticks;
  };
  const Row rows[] = {
      {{}, 0},
      {{5}, 0},
      {{5, 5, 5}, 0},
      {{5, 7, 4}, 3},
      {{0, ~uint64_t{0}}, 1},       // the short way round
      {{~uint64_t{9}, 10, 0}, 20},  // across 2^64
      {{0, kHalf - 1, kHalf + 1}, ~uint64_t{0} - 1},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(PhaseSpreadTicks(Vm(row.offsets)), row.spread_ticks);
    EXPECT_EQ(IsInPhase(Vm(row.offsets)), row.spread_ticks == 0);
  }
}

TEST(IsInPhase, TakesRatiosIntoAccount) {
  VmView vm = Vm({5, 5});
  vm.vcpus[0].ratio = vm.vcpus[1].ratio = 1 << 20;
  EXPECT_TRUE(IsInPhase(vm));
  vm.vcpus[1].ratio = 1 << 21;
  EXPECT_FALSE(IsInPhase(vm));
}

TEST(CompareViews, SaysWhoseSpreadChanged) {
  const HostView before = {{{70, 10}, Vm({5, 5})}, {{70, 20}, Vm({1, 4})}, {{80, 1}, Vm({0, 0})}};
  const HostView after = {
      {{70, 10}, Vm({5, 9})}, {{70, 20}, Vm({101, 104})}, {{90, 1}, Vm({0, 7})}};
  EXPECT_EQ(CompareViews(before, after), (std::vector<SpreadChange>{{{70, 10}, 0, 4}}));
  EXPECT_TRUE(CompareViews(before, before).empty());
  EXPECT_TRUE(CompareViews({}, after).empty());
}

TEST(CompareViews, DoesNotCompareWhatCannotBe) {
  VmView unsteady = Vm({5, 9});
  unsteady.steady = false;
  const VmKey key = {70, 10};
  EXPECT_TRUE(CompareViews({{key, Vm({5, 5})}}, {{key, unsteady}}).empty());
  EXPECT_TRUE(CompareViews({{key, unsteady}}, {{key, Vm({5, 5})}}).empty());
  EXPECT_TRUE(CompareViews({{key, Vm({5, 5})}}, {{key, Vm({5, 5, 9})}}).empty());
}

}  // namespace
}  // namespace tsc_handoff::observe
