#include "tests/simulate/agent.h"

#include <cstring>
#include <utility>

#include "server/base/error.h"
#include "tests/simulate/checker.h"

namespace tsc_handoff::simulate {
namespace {

constexpr size_t kMaxVms = 100;

std::string NextStepOf(const Vmm& vmm) { return absl::StrCat("VM ", vmm.vm_id); }

}  // namespace

// ---- clocks ----

uint64_t AgentClock::ReadTsc() {
  const uint64_t ticks = agent_.host().clocks().ReadTsc();
  agent_.ThrowIfDead();
  return ticks;
}

int64_t AgentClock::ReadRealtimeNs() {
  const int64_t ns = agent_.host().clocks().ReadRealtimeNs();
  agent_.ThrowIfDead();
  return ns;
}

int64_t AgentClock::ReadMonotonicNs() {
  const int64_t ns = agent_.host().clocks().ReadMonotonicNs();
  agent_.ThrowIfDead();
  return ns;
}

void AgentClock::SleepNs(int64_t ns) {
  agent_.host().clocks().SleepNs(ns);
  agent_.ThrowIfDead();
}

absl::StatusOr<handoff::PeerAnswers> NoProber::Probe(const std::string& address, int64_t) {
  return Error(Reason::kPeerUnreachable, absl::StrCat("nobody at ", address), {{"peer", address}});
}

// ---- the journal ----

const std::string& SimJournal::agent_id() const { return agent_.host().agent_id(); }

absl::StatusOr<journal::Contents> SimJournal::Load() { return agent_.host().disk().contents(); }

absl::Status SimJournal::Write(const journal::Change& change) {
  Context& context = agent_.context();
  agent_.MayCrash("before a write of the journal");
  if (!unavailable_reason_.empty()) return Error(Reason::kJournalUnavailable, unavailable_reason_);
  if (context.Strikes(context.faults().journal_refuses))
    return Error(Reason::kJournalUnavailable, "the disk is full, for a moment");
  agent_.host().checker().InDoubt(agent_.host(), change);
  agent_.host().disk().Write(change);
  agent_.Pass(context.random().OctaveBetween(50 * kPsPerUs, 5 * kPsPerMs));
  agent_.MayCrash("in the middle of a write of the journal");
  // One that shares the sync with this may have found the disk broken.
  if (!unavailable_reason_.empty()) return Error(Reason::kJournalUnavailable, unavailable_reason_);
  if (context.Strikes(context.faults().journal_fails)) {
    unavailable_reason_ = "the journal's disk is broken";
    context.Note(agent_.host().name(), ": the journal's sync fails");
    return Error(Reason::kJournalUnavailable, unavailable_reason_);
  }
  if (!agent_.host().options().skip_sync || context.random().Percent(50))
    agent_.host().disk().Sync();
  agent_.MayCrash("after a write of the journal");
  return absl::OkStatus();
}

// ---- the agent ----

Agent::Agent(Host& host)
    : host_(host),
      clock_(*this),
      journal_(*this),
      registry_(kMaxVms, absl::ZeroDuration()),
      timekeeper_(host.facts(), clock_, host.clock_view(), prober_, host.options().limits),
      operations_(host.facts(), registry_, timekeeper_, host.options().limits),
      controller_(ControllerParts()),
      handlers_({host.facts(), registry_, timekeeper_, operations_, controller_, journal_}) {
  if (const absl::Status status = controller_.Start(); !status.ok())
    context().Violate(absl::StrCat("an agent does not start: ", status.ToString()));
}

handoff::HandoffController::Parts Agent::ControllerParts() {
  return {
      .journal = journal_,
      .operations = operations_,
      .registry = registry_,
      .realtime_ns = [this] { return host_.clocks().realtime_ns(); },
      .monotonic_ns = [this] { return host_.clocks().monotonic_ns(); },
      .random_bytes =
          [this](size_t size) {
            std::string bytes(size, '\0');
            for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
              const uint64_t bits = context().random().Bits();
              std::memcpy(bytes.data() + i, &bits, std::min(sizeof(bits), size - i));
            }
            return bytes;
          },
      .on_change = [this](const journal::HandoffRecord& record,
                          handoff::Event event) { host_.checker().Changed(host_, record, event); },
      .mutations = host_.options().mutations,
  };
}

void Agent::MayCrash(const char* where) {
  if (!dead_ && context().Strikes(context().faults().agent_crashes)) host_.CrashAgent(where);
  ThrowIfDead();
}

void Agent::Pass(int64_t ps) {
  context().world().Advance(ps);
  ThrowIfDead();
}

// ---- a port ----

absl::Status SimPort::Reach(const char* what) {
  Context& context = agent_.context();
  agent_.MayCrash(what);
  agent_.Pass(context.random().OctaveBetween(kPsPerUs, 500 * kPsPerUs));
  if (vmm_->connection == mine_ && context.Strikes(context.faults().port_breaks))
    agent_.host().Disconnect(vmm_);
  if (vmm_->connection != mine_ || !vmm_->alive)
    return Error(Reason::kVmmGone, absl::StrCat("the VMM of ", NextStepOf(*vmm_), " is gone"));
  vmm_->ReadInbox();
  return absl::OkStatus();
}

absl::Status SimPort::Return(const char* what) {
  Context& context = agent_.context();
  agent_.Pass(context.random().OctaveBetween(kPsPerUs, 500 * kPsPerUs));
  agent_.MayCrash(what);
  if (vmm_->connection == mine_ && context.Strikes(context.faults().port_breaks))
    agent_.host().Disconnect(vmm_);
  if (vmm_->connection != mine_ || !vmm_->alive)
    return Error(Reason::kVmmGone, absl::StrCat("the VMM of ", NextStepOf(*vmm_), " is gone"));
  return absl::OkStatus();
}

absl::Status SimPort::CheckRefusal(bool hold) {
  if (vmm_->running)
    return Error(Reason::kVmRunning, absl::StrCat(NextStepOf(*vmm_), " is running"));
  if (hold) vmm_->granted = false;
  Context& context = agent_.context();
  if (context.Strikes(context.faults().port_refuses))
    return Error(Reason::kKvmIoctlFailed, "an ioctl failed", {{"ioctl", "KVM_GET_MSRS"}});
  return absl::OkStatus();
}

std::vector<tsc_vcpu_state> SimPort::States() const {
  std::vector<tsc_vcpu_state> states;
  states.reserve(vmm_->offsets.size());
  for (const uint64_t offset : vmm_->offsets)
    states.push_back({static_cast<uint32_t>(states.size()), vmm_->guest_khz, offset, 0, 0});
  return states;
}

absl::StatusOr<port::Capture> SimPort::ReadAll(port::Hold hold) {
  if (absl::Status status = Reach("before a reading"); !status.ok()) return status;
  if (absl::Status status = CheckRefusal(hold == port::Hold::kYes); !status.ok()) return status;
  port::Capture capture = {};
  capture.vcpus = States();
  const auto now = static_cast<uint64_t>(agent_.host().clocks().TrueTsc());
  capture.kvmclock.kvmclock_ns = now;
  capture.kvmclock.tsc_before_ticks = capture.kvmclock.tsc_after_ticks = now;
  if (absl::Status status = Return("after a reading"); !status.ok()) return status;
  return capture;
}

absl::StatusOr<port::Applied> SimPort::WriteAll(const port::ApplyOrder& order, port::Hold hold) {
  if (absl::Status status = Reach("before a writing"); !status.ok()) return status;
  if (absl::Status status = CheckRefusal(hold == port::Hold::kYes); !status.ok()) return status;
  Context& context = agent_.context();
  if (context.Strikes(context.faults().rollback_fails)) {
    for (uint64_t& offset : vmm_->offsets) offset = context.random().Bits();
    vmm_->before.reset();
    context.Count(Fact::kRollbackFailed);
    return Error(Reason::kRollbackFailed, "an ioctl failed, and restoring, too");
  }
  port::Applied applied = {};
  applied.before = States();
  for (size_t i = 0; i < order.vcpus.size(); ++i)
    vmm_->offsets[i] = order.vcpus[i].tsc_offset_ticks;
  vmm_->guest_khz = order.vcpus.front().tsc_khz;
  vmm_->written_at_ps = agent_.context().world().now_ps();
  applied.after = States();
  if (absl::Status status = Return("after a writing"); !status.ok()) return status;
  return applied;
}

absl::StatusOr<bool> SimPort::IsPaused() {
  if (absl::Status status = Reach("before a question"); !status.ok()) return status;
  const bool paused = !vmm_->running;
  if (absl::Status status = Return("after a question"); !status.ok()) return status;
  return paused;
}

void SimPort::SendPermit(const port::Permit& permit) {
  if (agent_.dead() || vmm_->connection != mine_ || !vmm_->alive) return;
  vmm_->inbox.push_back(permit);
  agent_.host().PermitSent(vmm_);
}

}  // namespace tsc_handoff::simulate
