// Handoffs that succeed, judged by the truth of the simulation and not by what the agents say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/handoff.h"
#include "tests/service/pair.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff {
namespace {

using testing::Each;

// kvmclock on the destination minus on the source, now. Time stands still between the two.
int64_t KvmclockErrorNs(const Pair& pair) {
  return static_cast<int64_t>(pair.destination->host().KvmclockNs(pair.destination_vm->vm().vm_fd) -
                              pair.source->host().KvmclockNs(pair.source_vm->vm().vm_fd));
}

PairOptions Reversed(PairOptions options) {
  std::swap(options.source, options.destination);
  return options;
}

struct Hosts {
  const char* name;
  PairOptions (*options)();
};

void PrintTo(const Hosts& hosts, std::ostream* out) { *out << hosts.name; }

class Handoff : public testing::TestWithParam<Hosts> {};

TEST_P(Handoff, PhaseIsExactAndTheBoundHolds) {
  const PairOptions options = GetParam().options();
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  const uint32_t khz =
      options.guest.guest_khz != 0 ? options.guest.guest_khz : options.source.host.clock.tsc_khz;
  const auto before = pair.source_vm->Read();
  ASSERT_TRUE(before.ok()) << before.status();

  const v1::SetTscStateRequest request = pair.Request();
  const auto applied = pair.to->SetTscState(request);

  ASSERT_TRUE(applied.ok()) << applied.status();
  ExpectTrueErrorWithin(pair, *applied, khz);
  EXPECT_NEAR(KvmclockErrorNs(pair), TicksToNs(pair.TrueErrorTicks().front(), khz), 1'000)
      << "TSC and kvmclock must not drift apart";
  EXPECT_TRUE(applied->kvmclock().moved());
  EXPECT_EQ(applied->elapsed_ticks(),
            static_cast<uint64_t>(static_cast<__int128>(applied->elapsed_ns()) * khz / 1'000'000));
  const auto after = pair.destination_vm->Read();
  ASSERT_TRUE(after.ok()) << after.status();
  ASSERT_EQ(applied->vcpus_size(), static_cast<int>(after->size()));
  for (size_t i = 0; i < after->size(); ++i) {
    const v1::VcpuResult& said = applied->vcpus(static_cast<int>(i));
    EXPECT_EQ(said.vcpu_id(), (*after)[i].vcpu_id);
    EXPECT_EQ(said.offset_after_ticks(), (*after)[i].tsc_offset_ticks);
    EXPECT_EQ((*after)[i].tsc_adjust_ticks, (*before)[i].tsc_adjust_ticks);
    EXPECT_EQ((*after)[i].tsc_deadline_ticks, (*before)[i].tsc_deadline_ticks);
    EXPECT_EQ((*after)[i].tsc_khz, khz);
  }
  EXPECT_TRUE(HasWarning(applied->warnings(), v1::Warning::CODE_MASTER_CLOCK_OFF));
  EXPECT_FALSE(pair.source->host().CatchUp(pair.source_vm->vcpu_fd(0)));
  EXPECT_FALSE(pair.destination->host().CatchUp(pair.destination_vm->vcpu_fd(0)));
}

PairOptions WithDeadlines(PairOptions options) {
  options.guest.deadline_ticks = {0, 9'000'000'000'000, 0, 9'000'000'000'001};
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    All, Handoff,
    testing::Values(Hosts{"From2100MhzVmxTo3500MhzSvm", [] { return PairOptions(); }},
                    Hosts{"From3500MhzSvmTo2100MhzVmx", [] { return Reversed(PairOptions()); }},
                    Hosts{"WithArmedDeadlines", [] { return WithDeadlines(PairOptions()); }},
                    Hosts{"GuestAtAThirdFrequency",
                          [] {
                            PairOptions options;
                            options.guest.guest_khz = 2'999'999;
                            return options;
                          }},
                    Hosts{"SameFrequencyWithoutScaling",
                          [] {
                            PairOptions options;
                            options.destination.host.clock.tsc_khz =
                                options.source.host.clock.tsc_khz;
                            options.source.host.kvm.tsc_control = false;
                            options.destination.host.kvm.tsc_control = false;
                            return options;
                          }},
                    Hosts{"ClocksAtTheirBounds",
                          [] {
                            PairOptions options;
                            options.source.host.clock.realtime_error_ns = 20'000;
                            options.destination.host.clock.realtime_error_ns = -20'000;
                            return options;
                          }},
                    Hosts{"TscsOfWrongRate",
                          [] {
                            PairOptions options;
                            options.source.host.clock.tsc_rate_error_ppb = 20'000;
                            options.destination.host.clock.tsc_rate_error_ppb = -20'000;
                            return options;
                          }},
                    Hosts{"SparseIds",
                          [] {
                            PairOptions options;
                            options.guest.vcpu_ids = {1, 7, 300, 4095};
                            options.destination_guest.vcpu_ids = options.guest.vcpu_ids;
                            return options;
                          }},
                    Hosts{"TscsAboutToWrap",
                          [] {
                            PairOptions options;
                            options.guest.start_tsc_ticks = uint64_t(-3'000'000'000);
                            return options;
                          }}),
    [](const auto& row) { return row.param.name; });

TEST(HandoffThereAndBack, ReturnsWithExactPhaseAndTheSumOfTheBounds) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  const auto there = pair.to->SetTscState(pair.Request());
  ASSERT_TRUE(there.ok()) << there.status();
  // What the source would have, had the VM stayed: kept aside, since it is about to be overwritten.
  const int64_t then_ns = pair.time->NowNs();
  const std::vector<uint64_t> stayed = pair.source_vm->GuestTscAt(then_ns);
  const auto captured = pair.to->GetTscState("vm");
  ASSERT_TRUE(captured.ok()) << captured.status();
  pair.time->Advance(3'000'000);
  EXPECT_EQ(captured->summary().guest_tsc_khz(), 2'100'000u);
  v1::SetTscStateRequest back;
  back.set_vm_id("vm");
  back.set_mode(v1::APPLY_MODE_ELAPSED);
  *back.mutable_state() = captured->state();
  const auto returned = pair.from->SetTscState(back);
  ASSERT_TRUE(returned.ok()) << returned.status();
  const std::vector<uint64_t> now = pair.source_vm->GuestTscAt(then_ns);
  for (size_t i = 0; i < now.size(); ++i) EXPECT_EQ(now[i] - stayed[i], now[0] - stayed[0]);
  EXPECT_LE(std::abs(TicksToNs(static_cast<int64_t>(now[0] - stayed[0]), 2'100'000)),
            there->error_bound().total_ns() + returned->error_bound().total_ns());
}

// The destination's clock is behind the source's by more than the blackout lasted, both within
// their bounds: the agent waits until no guest TSC would go back.
TEST(HandoffAtOnce, WaitsForWhatTheClocksDisagreeBy) {
  PairOptions options;
  options.source.host.clock.realtime_error_ns = 15'000;
  options.destination.host.clock.realtime_error_ns = -15'000;
  // Waits that long in real time at the most, while true time passes by looking at the clock only.
  options.destination.agent.limits.max_error_ns = 100'000'000;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  pair.destination->host().clock().DelayEachRead(400);
  const auto captured = pair.from->GetTscState("vm");
  ASSERT_TRUE(captured.ok()) << captured.status();
  v1::SetTscStateRequest request;
  request.set_vm_id("vm");
  request.set_mode(v1::APPLY_MODE_ELAPSED);
  *request.mutable_state() = captured->state();
  const int64_t started_ns = pair.time->NowNs();
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_GE(applied->elapsed_ns(), 0);
  EXPECT_GE(pair.time->NowNs() - started_ns, 25'000);
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
}

TEST(HandoffByTheLibrary, ReportsPhaseAndTimes) {
  Pair pair;
  ASSERT_TRUE(pair.ok());
  ASSERT_TRUE(pair.source_vm->Resume().ok());
  pair.source_vm->Pause();
  client::HandoffRequest request;
  request.source_vm_id = "vm";
  request.apply.set_vm_id("vm");
  request.apply.set_mode(v1::APPLY_MODE_ELAPSED);
  const client::HandoffReport report = client::Handoff(*pair.from, *pair.to, request);
  EXPECT_TRUE(report.status.ok()) << report.status;
  EXPECT_EQ(report.end, client::HandoffEnd::kMoved) << report.situation;
  EXPECT_EQ(report.phase_error_ticks, 0u);
  ExpectTrueErrorWithin(pair, report.apply, 2'100'000);
}

TEST(EqualOffsets, StayEqualAndKeepTheMasterClock) {
  PairOptions options;
  options.guest.phase_ticks.clear();
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  const v1::GetTscStateResponse captured = pair.Capture();
  EXPECT_TRUE(captured.summary().offsets_equal());
  EXPECT_FALSE(HasWarning(captured.warnings(), v1::Warning::CODE_MASTER_CLOCK_OFF));
  v1::SetTscStateRequest request;
  request.set_vm_id("vm");
  request.set_mode(v1::APPLY_MODE_ELAPSED);
  *request.mutable_state() = captured.state();
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  ASSERT_TRUE(pair.destination_vm->Resume().ok());
  EXPECT_TRUE(pair.destination->host().MasterClock(pair.destination_vm->vm().vm_fd));
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
  EXPECT_NEAR(KvmclockErrorNs(pair), TicksToNs(pair.TrueErrorTicks().front(), 2'100'000), 1'000);
}

TEST(ManyVcpus, A1024VcpuVmOfUnequalPhasesIsHandedOver) {
  PairOptions options;
  options.guest.vcpu_ids = sim::DenseIds(1024);
  options.guest.phase_ticks.clear();
  for (uint64_t i = 0; i < 1024; ++i) options.guest.phase_ticks.push_back(i * 1'000'003);
  options.destination_guest.vcpu_ids = options.guest.vcpu_ids;
  Pair pair(options);
  ASSERT_TRUE(pair.ok());
  const v1::SetTscStateRequest request = pair.Request();
  EXPECT_LE(request.state().ByteSizeLong(), 24u * 1024 + 128);
  const auto applied = pair.to->SetTscState(request);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->vcpus_size(), 1024);
  ExpectTrueErrorWithin(pair, *applied, 2'100'000);
}

TEST(ManyVms, SixteenAreHandedOverSideBySide) {
  constexpr int kVms = 16;
  Pair pair;
  ASSERT_TRUE(pair.ok());
  std::vector<std::unique_ptr<sim::SimGuest>> guests;
  for (int i = 0; i < kVms; ++i) {
    sim::SimGuestOptions options;
    options.vm_id = absl::StrCat("vm-", i);
    options.vcpu_ids = sim::DenseIds(2);
    options.phase_ticks = {0, 1'000u + static_cast<uint64_t>(i)};
    for (sim::SimNode* node : {pair.source.get(), pair.destination.get()}) {
      auto guest = node->AddGuest(options);
      ASSERT_TRUE(guest.ok()) << guest.status();
      guests.push_back(*std::move(guest));
    }
  }
  std::vector<client::HandoffReport> reports(kVms);
  std::vector<std::thread> callers;
  for (int i = 0; i < kVms; ++i) {
    callers.emplace_back([&, i] {
      client::HandoffRequest request;
      request.source_vm_id = absl::StrCat("vm-", i);
      request.apply.set_vm_id(request.source_vm_id);
      request.apply.set_mode(v1::APPLY_MODE_ELAPSED);
      reports[static_cast<size_t>(i)] = client::Handoff(*pair.from, *pair.to, request);
    });
  }
  for (std::thread& caller : callers) caller.join();
  const int64_t now_ns = pair.time->NowNs();
  for (size_t i = 0; i < kVms; ++i) {
    ASSERT_TRUE(reports[i].status.ok()) << reports[i].status;
    const auto should = guests[2 * i]->GuestTscAt(now_ns);
    const auto is = guests[2 * i + 1]->GuestTscAt(now_ns);
    EXPECT_EQ(is[1] - is[0], 1'000u + i);
    EXPECT_LE(std::abs(TicksToNs(static_cast<int64_t>(is[0] - should[0]), 2'100'000)),
              reports[i].apply.error_bound().total_ns());
  }
}

}  // namespace
}  // namespace tsc_handoff
