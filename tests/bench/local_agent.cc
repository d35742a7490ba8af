#include "tests/bench/local_agent.h"

#include <limits>
#include <utility>

#include "server/clock/reference.h"
#include "tests/bench/own_descriptors.h"

namespace tsc_handoff::bench {
namespace {

constexpr char kVmId[] = "bench-local";
constexpr int64_t kClockErrorNs = 1000;
// An emulated host on a busy machine; the agents measured allow as much.
constexpr int64_t kMaxErrorNs = 5'000'000;

// The clock as an operator who vouches for it would have it.
class VouchedClock final : public clock::ClockView {
 public:
  explicit VouchedClock(clock::HostClock& host_clock) : host_clock_(host_clock) {}
  clock::ClockSnapshot Snapshot() override {
    clock::ClockSnapshot snapshot;
    snapshot.quality.status = clock::ClockStatus::kSynchronised;
    snapshot.quality.trusted = true;
    snapshot.quality.error_bound_ns = kClockErrorNs;
    snapshot.taken = clock::ReadInstant(host_clock_);
    snapshot.trusted_until_ns = std::numeric_limits<int64_t>::max();
    return snapshot;
  }

 private:
  clock::HostClock& host_clock_;
};

// There is nobody else.
class NoPeers final : public handoff::PeerProber {
 public:
  absl::StatusOr<handoff::PeerAnswers> Probe(const std::string& /*address*/,
                                             int64_t /*budget_ns*/) override {
    return absl::UnavailableError("no peers");
  }
};

}  // namespace

LocalAgent::LocalAgent(host::HostFacts facts, std::unique_ptr<clock::HostClock> host_clock)
    : facts_(std::move(facts)),
      host_clock_(std::move(host_clock)),
      clock_(std::make_unique<VouchedClock>(*host_clock_)),
      prober_(std::make_unique<NoPeers>()),
      limits_{.max_error_ns = kMaxErrorNs},
      check_(std::make_unique<OwnDescriptors>()),
      listener_({.socket_path = "", .max_handshakes = 1, .on_event = nullptr}, registry_, *check_),
      timekeeper_(facts_, *host_clock_, *clock_, *prober_, limits_),
      operations_(facts_, registry_, timekeeper_, limits_) {}

LocalAgent::~LocalAgent() {
  session_.reset();
  listener_.Stop();
}

absl::StatusOr<std::unique_ptr<LocalAgent>> LocalAgent::Start(
    const TestVm& vm, host::HostFacts facts, std::unique_ptr<clock::HostClock> host_clock) {
  std::unique_ptr<LocalAgent> agent(new LocalAgent(std::move(facts), std::move(host_clock)));
  if (absl::Status status = agent->listener_.Start(); !status.ok()) return status;
  UniqueFd agents_end;
  auto session = Session::ConnectPair(vm, kVmId, agents_end);
  if (!session.ok()) return session.status();
  agent->session_ = *std::move(session);
  agent->listener_.Adopt(std::move(agents_end));
  if (absl::Status status = agent->session_->AwaitRegistered(); !status.ok()) return status;
  return agent;
}

absl::Status LocalAgent::PortRead() {
  auto lease = registry_.Lease(kVmId);
  return lease.ok() ? lease->port().ReadAll(port::Hold::kNo).status() : lease.status();
}

absl::Status LocalAgent::PortWrite(const port::ApplyOrder& order) {
  auto lease = registry_.Lease(kVmId);
  return lease.ok() ? lease->port().WriteAll(order, port::Hold::kNo).status() : lease.status();
}

absl::Status LocalAgent::Capture() {
  auto outcome = operations_.Capture(kVmId, port::Hold::kNo);
  if (!outcome.ok()) return outcome.status();
  captured_ = std::move(outcome->state);
  return absl::OkStatus();
}

absl::Status LocalAgent::Apply() {
  handoff::ApplyRequest request;
  request.vm_id = kVmId;
  request.state = captured_;
  return operations_.Apply(request).status();
}

}  // namespace tsc_handoff::bench
