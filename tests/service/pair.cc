#include "tests/service/pair.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <thread>
#include <utility>

#include "server/state/tsc_state_codec.h"

namespace tsc_handoff {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kClockReadNs = 40;
constexpr int64_t kBlackoutNs = 50'000'000;

// The agents' log is as long as the test's output otherwise.
class QuietAgents : public testing::Environment {
  void SetUp() override { spdlog::set_level(spdlog::level::off); }
};
const auto* const kQuietAgents = testing::AddGlobalTestEnvironment(new QuietAgents);

}  // namespace

PairOptions::PairOptions() {
  source.name = "source";
  source.host.clock.tsc_khz = 2'100'000;
  source.host.clock.realtime_error_ns = -4'000;
  source.host.kvm.vendor = sim::Vendor::kVmx;
  destination.name = "destination";
  destination.host.clock.tsc_khz = 3'500'000;
  destination.host.clock.tsc_start_ticks = 0x77;
  destination.host.clock.realtime_error_ns = 7'000;
  destination.host.kvm.vendor = sim::Vendor::kSvm;
  guest.vcpu_ids = sim::DenseIds(4);
  destination_guest = guest;
  guest.phase_ticks = {0, 35'000, uint64_t(-12), 1'000'000'007};
  guest.tsc_adjust_ticks = {0, 35'000, uint64_t(-12), 5};
}

sim::SimGuestOptions Named(const std::string& vm_id, uint32_t vcpus) {
  sim::SimGuestOptions options;
  options.vm_id = vm_id;
  options.vcpu_ids = sim::DenseIds(vcpus);
  return options;
}

Snapshot Look(const sim::SimGuest& guest) {
  Snapshot snapshot;
  auto vcpus = guest.Read();
  EXPECT_TRUE(vcpus.ok()) << vcpus.status();
  if (vcpus.ok()) snapshot.vcpus = *std::move(vcpus);
  snapshot.kvmclock_ns = guest.host().KvmclockNs(guest.vm().vm_fd);
  snapshot.true_ns = guest.host().clock().time().NowNs();
  snapshot.master_clock = guest.host().MasterClock(guest.vm().vm_fd);
  return snapshot;
}

void ExpectUnchanged(const sim::SimGuest& guest, const Snapshot& before,
                     uint64_t kvmclock_tolerance_ns) {
  const Snapshot after = Look(guest);
  ASSERT_EQ(after.vcpus.size(), before.vcpus.size());
  for (size_t i = 0; i < after.vcpus.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "vCPU " << before.vcpus[i].vcpu_id);
    EXPECT_EQ(after.vcpus[i].tsc_offset_ticks, before.vcpus[i].tsc_offset_ticks);
    EXPECT_EQ(after.vcpus[i].tsc_adjust_ticks, before.vcpus[i].tsc_adjust_ticks);
    EXPECT_EQ(after.vcpus[i].tsc_deadline_ticks, before.vcpus[i].tsc_deadline_ticks);
    EXPECT_EQ(after.vcpus[i].tsc_khz, before.vcpus[i].tsc_khz);
  }
  EXPECT_EQ(after.master_clock, before.master_clock);
  const int64_t drift_ns = static_cast<int64_t>(after.kvmclock_ns - before.kvmclock_ns) -
                           (after.true_ns - before.true_ns);
  EXPECT_LE(static_cast<uint64_t>(std::abs(drift_ns)), kvmclock_tolerance_ns + 1);
}

void ExpectRefused(const absl::Status& status, absl::StatusCode code, const std::string& reason) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_EQ(client::ReasonNameOf(status), reason) << status;
  EXPECT_TRUE(client::IsFromAgent(status)) << status;
  const std::string next_step = client::NextStepOf(status);
  EXPECT_FALSE(next_step.empty());
  EXPECT_THAT(std::string(status.message()), HasSubstr(next_step));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("..")));
}

bool Await(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(kPatience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

std::unique_ptr<client::AgentClient> ClientOf(const sim::SimNode& node, absl::Duration timeout) {
  client::AgentClientOptions options;
  options.timeout = timeout;
  auto client = client::AgentClient::Connect(node.address(), std::move(options));
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

v1::TscState Changed(const v1::TscState& state,
                     const std::function<void(time::TscState&)>& change) {
  auto opened = state::Decode(state);
  EXPECT_TRUE(opened.ok()) << opened.status();
  if (!opened.ok()) return {};
  change(*opened);
  return state::Encode(*opened);
}

Pair::Pair(const PairOptions& options) {
  Start(options);
  ok_ = !testing::Test::HasFatalFailure();
}

void Pair::Start(const PairOptions& options) {
  auto source_node = sim::SimNode::Start(time, options.source);
  ASSERT_TRUE(source_node.ok()) << source_node.status();
  source = *std::move(source_node);
  auto destination_node = sim::SimNode::Start(time, options.destination);
  ASSERT_TRUE(destination_node.ok()) << destination_node.status();
  destination = *std::move(destination_node);
  auto guest = source->AddGuest(options.guest, options.in_process);
  ASSERT_TRUE(guest.ok()) << guest.status();
  source_vm = *std::move(guest);
  guest = destination->AddGuest(options.destination_guest, options.in_process);
  ASSERT_TRUE(guest.ok()) << guest.status();
  destination_vm = *std::move(guest);
  source->host().clock().DelayEachRead(kClockReadNs);
  destination->host().clock().DelayEachRead(kClockReadNs);
  from = ClientOf(*source);
  to = ClientOf(*destination);
  ASSERT_TRUE(from != nullptr && to != nullptr);
}

v1::GetTscStateResponse Pair::Capture() {
  const absl::Status resumed = source_vm->Resume();
  EXPECT_TRUE(resumed.ok()) << resumed;
  time->Advance(1'234'567'891);
  source_vm->Pause();
  auto captured = from->GetTscState(source_vm->vm_id());
  EXPECT_TRUE(captured.ok()) << captured.status();
  time->Advance(kBlackoutNs);
  return captured.ok() ? *std::move(captured) : v1::GetTscStateResponse();
}

v1::SetTscStateRequest Pair::Request() {
  v1::SetTscStateRequest request;
  request.set_vm_id(destination_vm->vm_id());
  *request.mutable_state() = Capture().state();
  request.set_mode(v1::APPLY_MODE_ELAPSED);
  return request;
}

std::vector<int64_t> Pair::TrueErrorTicks() const {
  const int64_t now_ns = time->NowNs();
  const std::vector<uint64_t> should = source_vm->GuestTscAt(now_ns);
  const std::vector<uint64_t> is = destination_vm->GuestTscAt(now_ns);
  std::vector<int64_t> errors;
  for (size_t i = 0; i < is.size(); ++i) errors.push_back(static_cast<int64_t>(is[i] - should[i]));
  return errors;
}

double TicksToNs(int64_t ticks, uint32_t khz) { return static_cast<double>(ticks) * 1e6 / khz; }

bool HasWarning(const google::protobuf::RepeatedPtrField<v1::Warning>& warnings,
                v1::Warning::Code code) {
  for (const v1::Warning& warning : warnings) {
    if (warning.code() != code) continue;
    EXPECT_FALSE(warning.message().empty());
    return true;
  }
  return false;
}

void ExpectTrueErrorWithin(const Pair& pair, const v1::SetTscStateResponse& applied,
                           uint32_t guest_khz) {
  const std::vector<int64_t> errors = pair.TrueErrorTicks();
  EXPECT_THAT(errors, Each(errors.front()));
  ASSERT_TRUE(applied.has_error_bound());
  EXPECT_LE(std::abs(TicksToNs(errors.front(), guest_khz)),
            static_cast<double>(applied.error_bound().total_ns()));
  EXPECT_EQ(applied.phase_error_ticks(), 0u);
}

}  // namespace tsc_handoff
