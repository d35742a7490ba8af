#include "server/agent/vm_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/agent/fake_host_vms.h"

namespace tsc_handoff::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr observe::VmKey kVm = {70, 10};
constexpr milliseconds kSettle(200);

observe::HostView View(uint64_t ahead_ticks) {
  observe::VmView view;
  for (uint32_t id = 0; id < 2; ++id) {
    observe::VcpuView vcpu;
    vcpu.id = id;
    vcpu.offset_ticks = id * ahead_ticks;
    view.vcpus.push_back(vcpu);
  }
  return {{kVm, view}};
}

class VmWatchTest : public testing::Test {
 protected:
  bool Has(const std::string& vm_id) const { return registry_.Find(vm_id).ok(); }
  // The rounds that are due up to `now`, with nothing told.
  void RunTo(VmWatch::Clock::time_point now) {
    while (next_ <= now) next_ = watch_.Round(next_, false);
  }

  FakeHostVms host_;
  registry::VmRegistry registry_{100};
  FoundVms found_{{.registry = registry_,
                   .boot_id = "this boot",
                   .attach = [this](const discovery::FoundVm& vm,
                                    const std::string& vm_id) { return host_.Attach(vm, vm_id); },
                   .realtime_ns = [] { return 5; }}};
  observe::Observations observations_;
  std::vector<PhaseEvent> events_;
  VmWatch watch_{{.host = host_,
                  .registry = registry_,
                  .found = found_,
                  .observations = observations_,
                  .realtime_ns = [] { return 5; },
                  .on_phase_event = [this](const PhaseEvent& event) { events_.push_back(event); },
                  .observe_every = seconds(5)}};
  const VmWatch::Clock::time_point start_{seconds(1000)};
  VmWatch::Clock::time_point next_ = start_;
};

TEST_F(VmWatchTest, LooksWhenToldAndSoonAgainWhileThingsChange) {
  next_ = watch_.Round(start_, true);
  EXPECT_EQ(next_, start_ + kSettle) << "what was told may not be complete yet";
  host_.Set({FakeHostVms::Vm(70, "web1", 1)});
  next_ = watch_.Round(next_, false);
  EXPECT_TRUE(Has("web1"));
  EXPECT_EQ(next_, start_ + 2 * kSettle) << "its vCPUs come one by one";
  EXPECT_THAT(host_.watched(), ElementsAre(70));
  next_ = watch_.Round(next_, false);
  EXPECT_EQ(next_, start_ + seconds(5)) << "when it looks at the TSCs";
  host_.Set({});
  watch_.Round(next_, true);
  EXPECT_FALSE(Has("web1"));
  EXPECT_THAT(host_.watched(), IsEmpty());
}

TEST_F(VmWatchTest, LooksNowAndThenInCaseNothingTells) {
  RunTo(start_ + seconds(1));
  host_.Set({FakeHostVms::Vm(70, "web1")});
  RunTo(start_ + milliseconds(9'900));
  EXPECT_FALSE(Has("web1"));
  RunTo(start_ + seconds(11));
  EXPECT_TRUE(Has("web1"));
}

TEST_F(VmWatchTest, LooksMoreOftenWhereNothingTellsOfStarts) {
  host_.set_tells_of_starts(false);
  RunTo(start_ + seconds(1));
  host_.Set({FakeHostVms::Vm(70, "web1")});
  RunTo(start_ + milliseconds(3'000));
  EXPECT_TRUE(Has("web1"));
}

TEST_F(VmWatchTest, TellsAPhaseThatChangedOnItsOwn) {
  host_.Set({FakeHostVms::Vm(70, "web1")});
  host_.Show(View(0));
  RunTo(start_ + seconds(1));
  EXPECT_TRUE(observations_.Of(70, 10)->offsets_equal);
  host_.Show(View(35'000));
  RunTo(start_ + seconds(6));
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].vm_id, "web1");
  EXPECT_EQ(events_[0].change, (observe::SpreadChange{kVm, 0, 35'000}));
  RunTo(start_ + seconds(30));
  EXPECT_EQ(events_.size(), 1u);
}

TEST_F(VmWatchTest, DoesNotTellWhatTheAgentWroteItself) {
  host_.Set({FakeHostVms::Vm(70, "web1")});
  host_.Show(View(0));
  RunTo(start_ + seconds(1));
  { const registry::WriteNote note(**registry_.Find("web1")); }
  host_.Show(View(35'000));
  RunTo(start_ + seconds(30));
  EXPECT_THAT(events_, IsEmpty());
  EXPECT_EQ(observations_.Of(70, 10)->phase_spread_ticks, 35'000u);
}

TEST_F(VmWatchTest, NamesAVmThatRegisteredByItsProcess) {
  registry::VmIdentity identity;
  identity.vm_id = "db-7";
  identity.vmm_pid = 70;
  auto vm = std::make_shared<registry::RegisteredVm>(identity, std::make_unique<FakePort>(),
                                                     std::vector<UniqueFd>());
  ASSERT_TRUE(registry_.Add(vm, [] { return absl::OkStatus(); }).ok());
  host_.Set({FakeHostVms::Vm(70, "qemu-name")});
  host_.Show(View(0));
  RunTo(start_ + seconds(1));
  host_.Show(View(1));
  RunTo(start_ + seconds(6));
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].vm_id, "db-7");
  EXPECT_FALSE(Has("qemu-name"));
}

TEST_F(VmWatchTest, NotesWhetherAVmIsPaused) {
  host_.set_seen_paused(true);
  host_.Set({FakeHostVms::Vm(70, "web1")});
  RunTo(start_ + seconds(1));
  EXPECT_EQ((*registry_.Find("web1"))->run_state(), registry::RunState::kPaused);
}

TEST_F(VmWatchTest, RunsByItselfAndEnds) {
  host_.Set({FakeHostVms::Vm(70, "web1")});
  VmWatch running({.host = host_,
                   .registry = registry_,
                   .found = found_,
                   .observations = observations_,
                   .realtime_ns = [] { return 5; },
                   .on_phase_event = [](const PhaseEvent&) {}});
  running.Start();
  const auto deadline = VmWatch::Clock::now() + seconds(20);
  while (!Has("web1") && VmWatch::Clock::now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(Has("web1"));
  host_.Set({});
  while (Has("web1") && VmWatch::Clock::now() < deadline) std::this_thread::yield();
  EXPECT_FALSE(Has("web1"));
}

}  // namespace
}  // namespace tsc_handoff::agent
