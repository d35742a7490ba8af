#include "tests/simulate/simulation.h"

#include <algorithm>
#include <utility>

#include "client/lib/rpc_error.h"
#include "tests/simulate/agent.h"

namespace tsc_handoff::simulate {
namespace {

namespace v1 = tschandoff::v1;
using client::HandoffEnd;
using client::HandoffGoal;
using journal::Side;
using journal::State;

constexpr int kHosts = 3;
constexpr int64_t kLongestWorldPs = 120 * kPsPerSecond;
constexpr int64_t kStepPs = 5 * kPsPerMs;
constexpr int kMostRounds = 8;

}  // namespace

struct Simulation::Vm {
  std::string vm_id;
  uint32_t guest_khz = 0;
  size_t vcpus = 1;
  int rounds_left = 0;
  int orchestrators = 0;              // at work
  std::vector<std::string> in_round;  // handoffs
  std::vector<bool> was_on;           // by host
  Host* source = nullptr;             // of this round
  bool done = false;
};

Simulation::Simulation(uint64_t seed, const Bugs& bugs, std::ostream* trace, Tally& tally)
    : tally_(tally), context_(seed, trace, tally), checker_(context_), network_(context_) {
  Build(bugs);
}

Simulation::~Simulation() = default;

void Simulation::Build(const Bugs& bugs) {
  Random& random = context_.random();
  context_.set_check([this] { checker_.CheckOwners(); });
  HostOptions options;
  options.mutations = bugs.mutations;
  options.skip_sync = bugs.skip_sync;
  options.can_scale = random.Percent(50);
  // In half of the worlds clocks are all that an apply may be refused for.
  options.limits.max_error_ns = random.Percent(50) ? 1'000'000 : 200'000'000;
  std::vector<Host*> hosts;
  for (int i = 0; i < kHosts; ++i) {
    options.number = i;
    if (options.can_scale)
      options.tsc_khz = random.Pick<uint32_t>({2'600'000, 2'100'000, 3'000'000});
    options.tsc_error_ppb = random.Between(-10'000, 10'000);
    options.clock_rate_ppb = random.Between(-10'000, 10'000);
    options.clock_error_ps = random.Between(-100, 100) * kPsPerUs;
    hosts_.push_back(std::make_unique<Host>(context_, checker_, options));
    hosts.push_back(hosts_.back().get());
  }
  checker_.Watch(hosts);
  for (const auto& host : hosts_) host->StartAgent();
  const int vms = random.Percent(30) ? 2 : 1;
  for (int i = 0; i < vms; ++i) {
    auto vm = std::make_unique<Vm>();
    vm->vm_id = absl::StrCat("vm", i);
    vm->vcpus = static_cast<size_t>(random.Between(1, 3));
    vm->rounds_left = static_cast<int>(random.Between(1, kMostRounds));
    vm->was_on.resize(kHosts);
    Host& home = *hosts_[static_cast<size_t>(random.Between(0, kHosts - 1))];
    vm->guest_khz = home.options().tsc_khz;
    std::vector<uint64_t> offsets;
    for (size_t vcpu = 0; vcpu < vm->vcpus; ++vcpu)
      offsets.push_back(offsets.empty() || random.Percent(50) ? random.Bits() : offsets.front());
    home.StartVmm(vm->vm_id, vm->guest_khz, offsets, /*awaits=*/false);
    RoundLater(*vm, 100 * kPsPerMs);
    vms_.push_back(std::move(vm));
  }
  context_.After(random.OctaveBetween(kPsPerMs, 100 * kPsPerMs), [this] { Trouble(); });
}

Host& Simulation::AnyHostBut(const Host& host) {
  auto number = static_cast<int>(context_.random().Between(0, kHosts - 2));
  if (number >= host.number()) ++number;
  return *hosts_[static_cast<size_t>(number)];
}

Host* Simulation::WhereIs(const Vm& vm) const {
  for (const auto& host : hosts_) {
    const VmmPtr vmm = host->FindVmm(vm.vm_id);
    if (vmm != nullptr && vmm->Holds()) return host.get();
  }
  return nullptr;
}

// ---- handoffs ----

void Simulation::RoundLater(Vm& vm, int64_t longest_ps) {
  context_.After(context_.random().OctaveBetween(kPsPerMs, longest_ps), [this, &vm] { Round(vm); });
}

void Simulation::Round(Vm& vm) {
  if (over_) return;
  Host* const source = WhereIs(vm);
  if (vm.rounds_left == 0 || checker_.Dead(vm.vm_id)) {
    vm.done = true;
    return;
  }
  if (source == nullptr) {  // its agent is down, or it is in a handoff that nobody has ended
    --vm.rounds_left;
    return RoundLater(vm, 2 * kPsPerSecond);
  }
  --vm.rounds_left;
  Random& random = context_.random();
  Host& destination = AnyHostBut(*source);
  vm.source = source;
  vm.in_round.clear();
  Prepare(vm, destination);
  const VmmPtr vmm = source->FindVmm(vm.vm_id);
  vmm->kept_paused = true;
  if (vmm->running) {
    vmm->running = false;
    checker_.Paused(*source, *vmm);
  }
  context_.Note(source->name(), ": ", vm.vm_id, " is paused, to be handed over");
  const std::string handoff_id = absl::StrCat("h", ++handoffs_);
  Begin(vm, *source, destination, handoff_id);
  if (random.Percent(30)) {
    ++vm.orchestrators;
    context_.Count(Fact::kTwoOrchestrators);
    const bool aborts = random.Percent(50);
    context_.After(random.OctaveBetween(100 * kPsPerUs, 200 * kPsPerMs),
                   [this, &vm, source, &destination, handoff_id, aborts] {
                     Task task{aborts ? HandoffGoal::kAbort : HandoffGoal::kResume, handoff_id,
                               vm.vm_id, source, &destination};
                     task.otherwise = context_.random().Percent(30);
                     Orchestrator::Start(context_, network_, task,
                                         [this, &vm, handoff_id](const auto*) {
                                           OrchestratorEnded(vm, handoff_id, false);
                                         });
                   });
  }
  if (random.Percent(15)) {
    Host& other = AnyHostBut(*source);
    if (other.number() != destination.number()) Prepare(vm, other);
    context_.Count(Fact::kTwoHandoffs);
    Begin(vm, *source, other, absl::StrCat("h", ++handoffs_));
  }
}

// A VMM that waits for the VM: a new one, or the one that is still there.
void Simulation::Prepare(Vm& vm, Host& destination) {
  Random& random = context_.random();
  const VmmPtr there = destination.FindVmm(vm.vm_id);
  if (there != nullptr && random.Percent(25)) return;
  std::vector<uint64_t> offsets;
  for (size_t vcpu = 0; vcpu < vm.vcpus; ++vcpu) offsets.push_back(random.Bits());
  destination.StartVmm(vm.vm_id, destination.options().tsc_khz, std::move(offsets), true);
}

void Simulation::Begin(Vm& vm, Host& source, Host& destination, const std::string& handoff_id) {
  vm.in_round.push_back(handoff_id);
  ++vm.orchestrators;
  Task task{HandoffGoal::kFinish, handoff_id, vm.vm_id, &source, &destination};
  Orchestrator::Start(context_, network_, task, [this, &vm, handoff_id](const auto*) {
    OrchestratorEnded(vm, handoff_id, true);
  });
}

void Simulation::OrchestratorEnded(Vm& vm, const std::string& handoff_id, bool began) {
  const auto told = checker_.told().find(handoff_id);
  const bool ended = told != checker_.told().end() && told->second.Ended();
  if (ended && !began) context_.Count(Fact::kResumedByAnother);
  if (--vm.orchestrators > 0) return;
  for (const std::string& id : vm.in_round) {
    const auto one = checker_.told().find(id);
    if (one == checker_.told().end() || one->second.Ended()) continue;
    if (!over_ && context_.random().Percent(85)) return TakeUpLater(vm, id);
  }
  RoundOver(vm);
}

void Simulation::TakeUpLater(Vm& vm, const std::string& handoff_id) {
  ++vm.orchestrators;
  context_.After(context_.random().OctaveBetween(kPsPerMs, kPsPerSecond), [this, &vm, handoff_id] {
    const Told& told = checker_.told().at(handoff_id);
    Task task{context_.random().Percent(60) ? HandoffGoal::kResume : HandoffGoal::kAbort,
              handoff_id, vm.vm_id, hosts_[static_cast<size_t>(told.source)].get(),
              hosts_[static_cast<size_t>(told.destination)].get()};
    task.otherwise = context_.random().Percent(30);
    Orchestrator::Start(context_, network_, task, [this, &vm, handoff_id](const auto*) {
      OrchestratorEnded(vm, handoff_id, false);
    });
  });
}

void Simulation::RoundOver(Vm& vm) {
  for (const auto& host : hosts_) {
    const VmmPtr vmm = host->FindVmm(vm.vm_id);
    if (vmm == nullptr) continue;
    vmm->kept_paused = false;
    host->TryResume(vmm);
  }
  if (Host* const now = WhereIs(vm); now != nullptr && now != vm.source) {
    const auto number = static_cast<size_t>(now->number());
    vm.was_on[static_cast<size_t>(vm.source->number())] = true;
    if (vm.was_on[number]) context_.Count(Fact::kCameBack);
  }
  RoundLater(vm, 500 * kPsPerMs);
}

// ---- what else happens ----

void Simulation::Trouble() {
  if (over_) return;
  const Faults& faults = context_.faults();
  if (context_.Strikes(faults.liar)) Lie();
  if (context_.Strikes(faults.vmm_dies)) LoseVmm();
  if (context_.Strikes(faults.clock_steps)) StepClock();
  if (context_.Strikes(faults.port_breaks)) BreakConnection();
  if (context_.random().Percent(5)) Compact();
  context_.After(context_.random().OctaveBetween(kPsPerMs, 50 * kPsPerMs), [this] { Trouble(); });
}

// Somebody who has no proof, or is in a hurry.
void Simulation::Lie() {
  if (handoffs_ == 0) return;
  Random& random = context_.random();
  const std::string handoff_id =
      absl::StrCat("h", random.Between(std::max(1, handoffs_ - 2), handoffs_));
  const auto told = checker_.told().find(handoff_id);
  if (told == checker_.told().end() || told->second.source < 0) return;
  Host& source = *hosts_[static_cast<size_t>(told->second.source)];
  Host& destination = *hosts_[static_cast<size_t>(told->second.destination)];
  client::AgentRequest request;
  Host* host = &destination;
  switch (random.Between(0, 3)) {
    case 0: {
      // Monitoring reads a VM's TSCs, too.
      v1::GetTscStateRequest read;
      read.set_vm_id(told->second.vm_id);
      request = read;
      break;
    }
    case 1: {
      v1::CommitHandoffRequest commit;
      commit.set_handoff_id(handoff_id);
      commit.set_side(v1::Handoff::SIDE_DESTINATION);
      commit.set_release_proof(std::string(16, 'x'));
      request = commit;
      break;
    }
    case 2: {
      v1::AbortHandoffRequest abort;
      abort.set_handoff_id(handoff_id);
      abort.set_side(v1::Handoff::SIDE_DESTINATION);
      abort.set_abort_proof(std::string(16, 'x'));
      request = abort;
      break;
    }
    default: {
      // Allowed, and not wise: the state may not have arrived.
      v1::CommitHandoffRequest commit;
      commit.set_handoff_id(handoff_id);
      commit.set_side(v1::Handoff::SIDE_SOURCE);
      request = commit;
      host = &source;
      break;
    }
  }
  context_.Note("somebody sends host ", host->name(), " a ", NameOf(request), " of handoff ",
                handoff_id, " that is out of place");
  const auto alive = std::make_shared<const bool>(true);
  network_.Call(*host, std::make_shared<const client::AgentRequest>(std::move(request)), alive,
                [alive](const auto&) {});
}

// A VMM dies that the VM is not in, or not yet.
void Simulation::LoseVmm() {
  Random& random = context_.random();
  Vm& vm = *vms_[static_cast<size_t>(random.Between(0, static_cast<int64_t>(vms_.size()) - 1))];
  Host& host = *hosts_[static_cast<size_t>(random.Between(0, kHosts - 1))];
  const VmmPtr vmm = host.FindVmm(vm.vm_id);
  if (vmm == nullptr || vmm->Holds() || !vmm->awaits) return;
  // Not the VM's only process.
  for (const auto& [handoff_id, told] : checker_.told()) {
    if (told.vm_id != vm.vm_id) continue;
    if (told.source == host.number() && told.at_source == State::kCaptured) return;
  }
  for (const journal::VmRecord& record : host.disk().contents().vms) {
    if (record.vm_id == vm.vm_id && record.standing == journal::Standing::kOwned) return;
  }
  context_.Count(Fact::kVmmDied);
  host.KillVmm(vmm);
  context_.After(random.OctaveBetween(kPsPerMs, kPsPerSecond), [this, &host, &vm] {
    if (host.FindVmm(vm.vm_id) == nullptr) Prepare(vm, host);
  });
}

void Simulation::BreakConnection() {
  Random& random = context_.random();
  const auto& vm =
      vms_[static_cast<size_t>(random.Between(0, static_cast<int64_t>(vms_.size()) - 1))];
  Host& host = *hosts_[static_cast<size_t>(random.Between(0, kHosts - 1))];
  if (const VmmPtr vmm = host.FindVmm(vm->vm_id); vmm != nullptr) host.Disconnect(vmm);
}

void Simulation::StepClock() {
  Random& random = context_.random();
  Host& host = *hosts_[static_cast<size_t>(random.Between(0, kHosts - 1))];
  context_.Count(Fact::kClockStepped);
  const int64_t by_ps = random.EitherSign(random.OctaveBetween(kPsPerUs, 2 * kPsPerSecond));
  context_.Note(host.name(), ": the clock is stepped by ", by_ps / kPsPerUs, " us");
  host.clocks().StepRealtime(by_ps);
  context_.After(random.OctaveBetween(kPsPerMs, 2 * kPsPerSecond), [this, &host] {
    context_.Note(host.name(), ": the clock is set right");
    host.clocks().StepRealtime(-host.clocks().ErrorPs());
  });
}

// Compaction: drops destinations' records of handoffs that have ended. The highest epochs stay, and
// stop what is still under way. (Sources' records are dropped after days only, when nothing is
// under way.)
void Simulation::Compact() {
  std::vector<std::string> old;
  for (const auto& [handoff_id, told] : checker_.told()) {
    if (told.Ended() && told.destination >= 0 && told.at_destination.has_value())
      old.push_back(handoff_id);
  }
  for (const std::string& handoff_id : old) {
    const Told& told = checker_.told().at(handoff_id);
    Host& host = *hosts_[static_cast<size_t>(told.destination)];
    if (host.agent() == nullptr || !context_.random().Percent(30)) continue;
    host.agent()->controller().Forget(handoff_id, Side::kDestination);
    host.disk().Forget(handoff_id, Side::kDestination);
    checker_.Forgotten(host, handoff_id, Side::kDestination);
  }
}

// ---- the end ----

bool Simulation::RunUntil(int64_t longest_ps, const std::function<bool()>& done) {
  const int64_t until_ps = context_.world().now_ps() + longest_ps;
  while (context_.wrong().empty() && !done()) {
    if (context_.world().now_ps() >= until_ps) return false;
    context_.world().Advance(kStepPs);
  }
  return true;
}

std::string Simulation::Run() {
  RunUntil(kLongestWorldPs, [this] {
    return std::all_of(vms_.begin(), vms_.end(),
                       [](const auto& vm) { return vm->done && vm->orchestrators == 0; });
  });
  CalmDown();
  FinishEverything();
  if (context_.wrong().empty()) checker_.CheckEnd();
  if (context_.wrong().empty()) HandOverOnceMore();
  return context_.wrong();
}

// As their daemons would, were they not in one of their bad moments.
void Simulation::SetClocksRight() {
  for (const auto& host : hosts_) host->clocks().StepRealtime(-host->clocks().ErrorPs());
}

void Simulation::CalmDown() {
  over_ = true;
  context_.CalmDown();
  context_.Note("the faults stop");
  SetClocksRight();
  for (const auto& host : hosts_) {
    // A journal that takes no changes does so until its agent starts again.
    if (host->agent() != nullptr) host->CrashAgent("and starts again");
  }
  for (const auto& vm : vms_) {
    for (const auto& host : hosts_) {
      if (host->FindVmm(vm->vm_id) == nullptr) Prepare(*vm, *host);
    }
  }
  // Everybody is back, and what was under way has arrived.
  RunUntil(30 * kPsPerSecond, [] { return false; });
}

bool Simulation::AllEnded() const {
  const auto& told = checker_.told();
  return std::all_of(told.begin(), told.end(), [this](const auto& entry) {
    return entry.second.Ended() || checker_.Dead(entry.second.vm_id);
  });
}

void Simulation::FinishEverything() {
  // A late request may begin a handoff again and again; each try sees what there is then.
  for (int attempt = 0; attempt < 4 && !AllEnded() && context_.wrong().empty(); ++attempt) {
    int at_work = 0;
    for (const auto& [handoff_id, told] : checker_.told()) {
      if (told.Ended() || checker_.Dead(told.vm_id)) continue;
      if (attempt == 0) context_.Count(Fact::kEndedInCalm);
      ++at_work;
      const bool released = told.at_source == State::kReleased;
      Task task{
          released || context_.random().Percent(50) ? HandoffGoal::kResume : HandoffGoal::kAbort,
          handoff_id,
          told.vm_id,
          hosts_[static_cast<size_t>(told.source)].get(),
          hosts_[static_cast<size_t>(told.destination)].get(),
          /*exact=*/attempt > 0};
      Orchestrator::Start(context_, network_, task, [&at_work](const auto*) { --at_work; });
    }
    if (!RunUntil(60 * kPsPerSecond, [&] { return at_work == 0; }))
      context_.Violate("an orchestrator does not end");
    RunUntil(3 * kPsPerSecond, [] { return false; });
  }
}

void Simulation::HandOver(Vm& vm, Host& source, Host& destination) {
  absl::Status status;
  // Readings still stall now and then, and an agent may rightly refuse for that.
  for (int attempt = 0; attempt < 3; ++attempt) {
    bool ended = false;
    bool moved = false;
    Task task{HandoffGoal::kFinish, absl::StrCat("h", ++handoffs_), vm.vm_id, &source,
              &destination};
    Orchestrator::Start(context_, network_, task, [&](const client::HandoffResult* result) {
      ended = true;
      moved = result->end == HandoffEnd::kMoved;
      status = result->status;
    });
    RunUntil(30 * kPsPerSecond, [&] { return ended; });
    if (moved || !context_.wrong().empty()) return;
    if (client::ReasonOf(status) != v1::CLOCK_BOUND_EXCEEDED) break;
  }
  context_.Violate(
      absl::StrCat("VM ", vm.vm_id, " cannot be handed over any more: ", status.ToString()));
}

void Simulation::HandOverOnceMore() {
  for (const auto& vm : vms_) {
    if (checker_.Dead(vm->vm_id)) continue;
    Host* const source = WhereIs(*vm);
    if (source == nullptr) {
      context_.Violate(absl::StrCat("VM ", vm->vm_id, " may run nowhere"));
      return;
    }
    Host& destination = AnyHostBut(*source);
    const VmmPtr vmm = source->FindVmm(vm->vm_id);
    vmm->kept_paused = true;
    if (vmm->running) checker_.Paused(*source, *vmm);
    vmm->running = false;
    Prepare(*vm, destination);
    SetClocksRight();  // they have drifted since the calm began
    RunUntil(kPsPerSecond, [] { return false; });
    HandOver(*vm, *source, destination);
    RunUntil(kPsPerSecond, [] { return false; });
    if (context_.wrong().empty() && WhereIs(*vm) != &destination)
      context_.Violate(absl::StrCat("VM ", vm->vm_id, " was handed over and does not run"));
  }
}

}  // namespace tsc_handoff::simulate
