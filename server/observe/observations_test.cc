#include "server/observe/observations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tsc_handoff::observe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr VmKey kVm = {70, 10};

VmView View(const std::vector<uint64_t>& offsets) {
  VmView view;
  for (size_t i = 0; i < offsets.size(); ++i) {
    VcpuView vcpu;
    vcpu.id = static_cast<uint32_t>(i);
    vcpu.offset_ticks = offsets[i];
    view.vcpus.push_back(vcpu);
  }
  return view;
}

Look Seen(const HostView& view, uint64_t writes_before = 0, uint64_t writes_after = 0) {
  return {{{kVm.pid, writes_before}}, view, {{kVm.pid, writes_after}}, 5};
}

TEST(Observations, SaysWhatWasSeenLast) {
  Observations observations;
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 5})}, {{71, 3}, View({7, 107})}})), IsEmpty());
  EXPECT_EQ(observations.Of(70, 10)->phase_spread_ticks, 0u);
  EXPECT_TRUE(observations.Of(70, 10)->offsets_equal);
  EXPECT_EQ(observations.Of(71, 3)->phase_spread_ticks, 100u);
  EXPECT_FALSE(observations.Of(71, 3)->offsets_equal);
  EXPECT_EQ(observations.Of(71, 3)->observed_at_ns, 5);
  EXPECT_EQ(observations.Of(71, 3)->vcpus, 2u);
  const Totals totals = observations.Sum();
  EXPECT_EQ(totals.vms, 2u);
  EXPECT_EQ(totals.out_of_phase, 1u);
  EXPECT_EQ(totals.most_spread_ticks, 100u);
}

TEST(Observations, AVmThatHasEndedIsForgotten) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5})}}));
  observations.Tell(Seen({}));
  EXPECT_EQ(observations.Of(70, 10), std::nullopt);
  EXPECT_EQ(observations.Sum().vms, 0u);
}

TEST(Observations, AProcessesOnlyVmNeedsNoDescriptor) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5})}, {{71, 3}, View({1})}, {{71, 4}, View({1})}}));
  EXPECT_TRUE(observations.Of(70, -1).has_value());
  EXPECT_FALSE(observations.Of(71, -1).has_value()) << "it has two";
  EXPECT_FALSE(observations.Of(69, -1).has_value());
  EXPECT_FALSE(observations.Of(70, 11).has_value()) << "another VM";
}

TEST(Observations, AChangeWithoutAWriteIsTold) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5, 5})}}, 4, 4));
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 25})}}, 4, 4)),
              ElementsAre(SpreadChange{kVm, 0, 20}));
  EXPECT_EQ(observations.Of(70, 10)->changed_on_its_own, 1u);
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 25})}}, 4, 4)), IsEmpty());
  EXPECT_EQ(observations.Of(70, 10)->changed_on_its_own, 1u);
}

TEST(Observations, AllVcpusMovedAlikeIsNoChangeOfPhase) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5, 7})}}));
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({105, 107})}})), IsEmpty());
}

TEST(Observations, TheAgentsOwnWriteIsNotTold) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5, 5})}}, 0, 0));
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 25})}}, 2, 2)), IsEmpty());
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 26})}}, 2, 2)),
              ElementsAre(SpreadChange{kVm, 20, 21}))
      << "that was before";
}

TEST(Observations, AWriteWhileItIsReadIsNotToldEither) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5, 5})}}, 0, 1));  // begins while it is read
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 25})}}, 2, 2)), IsEmpty());
  observations.Tell(Seen({{kVm, View({5, 25})}}, 2, 3));
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 45})}}, 3, 3)), IsEmpty()) << "under way";
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 55})}}, 4, 4)), IsEmpty()) << "ended since";
}

TEST(Observations, AViewThatIsNotSteadyWaitsForTheNext) {
  Observations observations;
  observations.Tell(Seen({{kVm, View({5, 5})}}));
  VmView torn = View({5, 90});
  torn.steady = false;
  EXPECT_THAT(observations.Tell(Seen({{kVm, torn}})), IsEmpty());
  EXPECT_EQ(observations.Of(70, 10)->phase_spread_ticks, 0u);
  EXPECT_THAT(observations.Tell(Seen({{kVm, View({5, 25})}})),
              ElementsAre(SpreadChange{kVm, 0, 20}));
}

TEST(Observations, SaysWhetherKvmScales) {
  Observations observations;
  VmView view = View({5, 5});
  view.vcpus[0].ratio = view.vcpus[1].ratio = uint64_t{1} << 32;
  view.vcpus[0].ratio_frac_bits = view.vcpus[1].ratio_frac_bits = 32;
  observations.Tell(Seen({{kVm, view}}));
  EXPECT_FALSE(observations.Of(70, 10)->scaled);
  view.vcpus[1].ratio = *view.vcpus[1].ratio - 1;
  observations.Tell(Seen({{kVm, view}}));
  EXPECT_TRUE(observations.Of(70, 10)->scaled);
  EXPECT_FALSE(observations.Of(70, 10)->offsets_equal);
}

}  // namespace
}  // namespace tsc_handoff::observe
