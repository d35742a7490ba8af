#include "tests/clock_sim/handoff_run.h"

#include <algorithm>

#include "server/time/tsc_scaling.h"
#include "tests/clock_sim/ground_truth.h"
#include "tests/clock_sim/random.h"
#include "tests/clock_sim/sim_host.h"
#include "tests/clock_sim/sim_network.h"
#include "tests/clock_sim/units.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {
namespace {

using Phase = Disturbance::Phase;

// Not the stream from which the scenario itself was drawn.
constexpr uint64_t kRunSeed = 0x5eed'5eed'5eed'5eed;

class Run {
 public:
  explicit Run(const Scenario& scenario)
      : scenario_(scenario),
        random_(scenario.seed ^ kRunSeed),
        network_(world_, scenario.network, random_.Fork()),
        source_(world_, scenario.source, network_, scenario.limits, {}, random_.Fork()),
        destination_(
            world_, scenario.destination, network_, scenario.limits,
            [this](const std::string&, const time::ClockProbe& probe) { Note(probe); },
            random_.Fork()) {
    network_.Connect(destination_, source_);
  }

  Outcome Go() {
    source_.Start();
    if (!scenario_.same_host) destination_.Start();
    Disturb(Phase::kBeforeCapture);
    world_.Advance(scenario_.warm_up_ps);
    outcome_.status = Capture();
    if (outcome_.status.ok()) {
      Disturb(Phase::kBlackout);
      world_.Advance(scenario_.blackout_ps);
      Disturb(Phase::kReckoning);
      outcome_.status = Reckon();
    }
    NoteHosts();
    return outcome_;
  }

 private:
  SimHost& target() { return scenario_.same_host ? source_ : destination_; }

  void Disturb(Phase phase);
  void Strike(const Disturbance& disturbance, SimHost& host);
  absl::Status Capture();
  absl::Status Reckon();
  void Judge(const time::TscScaling& scaling);
  void Note(const time::ClockProbe& probe);
  void NoteHosts();

  const Scenario& scenario_;
  World world_;
  Random random_;
  SimNetwork network_;
  SimHost source_;
  SimHost destination_;
  time::TscScaling source_scaling_;
  int64_t captured_ps_ = 0;
  Outcome outcome_;
};

void Run::Strike(const Disturbance& disturbance, SimHost& host) {
  if (disturbance.by_discipline) host.StepByDiscipline();
  if (disturbance.step_ps != 0) {
    host.StepByForeigner(disturbance.step_ps);
    if (disturbance.undone_after_ps > 0) {
      world_.After(disturbance.undone_after_ps,
                   [&host, ps = disturbance.step_ps] { host.StepByForeigner(-ps); });
    }
  }
  world_.Advance(disturbance.stall_ps);
}

void Run::Disturb(Phase phase) {
  for (const Disturbance& disturbance : scenario_.disturbances) {
    if (disturbance.phase != phase) continue;
    SimHost& host = disturbance.of_source ? source_ : target();
    const auto strike = [this, &disturbance, &host] { Strike(disturbance, host); };
    if (disturbance.reading > 0) {
      host.clocks().SetTrap(disturbance.reading, strike);
    } else {
      world_.After(disturbance.after_ps, strike);
    }
  }
}

absl::Status Run::Capture() {
  Disturb(Phase::kCapture);
  outcome_.source_trusted_by_poll = source_.monitor().Snapshot().quality.trusted;
  auto scaling = time::TscScaling::For(source_.facts().tsc, scenario_.guest_khz);
  if (!scaling.ok()) return scaling.status();
  source_scaling_ = *scaling;
  auto reference = source_.timekeeper().TakeReference();
  if (!reference.ok()) return reference.status();
  captured_ps_ = world_.now_ps();
  time::TscState& state = outcome_.state;
  state.vm_id = "vm";
  state.boot_id = source_.facts().boot_id;
  state.reference = *reference;
  state.guest_khz = scenario_.guest_khz;
  for (const uint64_t offset : scenario_.offsets) {
    state.vcpus.push_back(
        {.id = static_cast<uint32_t>(state.vcpus.size()),
         .guest_tsc_ticks = time::GuestTsc(source_scaling_, reference->host_tsc_ticks, offset)});
  }
  return absl::OkStatus();
}

absl::Status Run::Reckon() {
  const time::TscState& state = outcome_.state;
  auto scaling = time::TscScaling::For(target().facts().tsc, state.guest_khz);
  if (!scaling.ok()) return scaling.status();
  target().sleep_log().Begin();
  auto reckoning = target().timekeeper().Reckon(state, *scaling, scenario_.policy,
                                                scenario_.names_source ? "source:1" : "",
                                                scenario_.time_left_ns);
  outcome_.true_elapsed_ns = (world_.now_ps() - captured_ps_) / kPsPerNs;
  outcome_.sleeps = target().sleep_log().sleeps();
  outcome_.reckoning_began_ns = target().sleep_log().began_ns();
  if (!reckoning.ok()) return reckoning.status();
  auto plan = time::PlanApply(state, reckoning->reference, *scaling, reckoning->elapsed,
                              /*equalise=*/false);
  if (!plan.ok()) return plan.status();
  outcome_.reckoning = *reckoning;
  outcome_.plan = *plan;
  Judge(*scaling);
  return absl::OkStatus();
}

void Run::Judge(const time::TscScaling& scaling) {
  const uint64_t captured_at = outcome_.state.reference->host_tsc_ticks;
  const uint64_t planned_at = outcome_.reckoning.reference.host_tsc_ticks;
  const GuestTruth stayed(source_.clocks(), source_scaling_, captured_at);
  const GuestTruth moved(target().clocks(), scaling, planned_at);
  const auto planned_ticks = static_cast<int64_t>(
      time::GuestTsc(scaling, planned_at, outcome_.plan->offsets.front().offset_ticks) -
      outcome_.state.vcpus.front().guest_tsc_ticks);
  outcome_.error_ticks = planned_ticks - stayed.At(moved.since_ps());
  world_.Advance(scenario_.apply_ps);
  for (size_t i = 0; i < outcome_.state.vcpus.size(); ++i) {
    const uint64_t at_plan =
        time::GuestTsc(scaling, planned_at, outcome_.plan->offsets[i].offset_ticks);
    const uint64_t now = at_plan + static_cast<uint64_t>(moved.At(world_.now_ps()));
    outcome_.gained_ticks.push_back(
        static_cast<int64_t>(now - outcome_.state.vcpus[i].guest_tsc_ticks));
    outcome_.guest_wrapped |= now < outcome_.state.vcpus[i].guest_tsc_ticks;
  }
  outcome_.tsc_wrapped =
      stayed.WrapsUntil(world_.now_ps()) ||
      target().clocks().TrueTscAt(captured_ps_) >> 64 != target().clocks().TrueTsc() >> 64;
}

void Run::Note(const time::ClockProbe& probe) {
  outcome_.probe = probe;
  outcome_.probe_wrong_ns = ProbeWrongNs(probe, destination_.clocks(), source_.clocks());
}

void Run::NoteHosts() {
  outcome_.destination_trusted_by_poll = target().monitor().Snapshot().quality.trusted;
  outcome_.broken_claim = source_.broken_claim();
  outcome_.broken_claim += destination_.broken_claim();
  outcome_.steps = source_.steps() + destination_.steps();
  outcome_.distrusts = source_.monitor().distrusts() + destination_.monitor().distrusts();
  const int64_t leap_ps = scenario_.source.leap_second.at_ps;
  outcome_.leap_between = scenario_.leap_second && captured_ps_ > 0 && leap_ps > captured_ps_ &&
                          leap_ps < captured_ps_ + outcome_.true_elapsed_ns * kPsPerNs;
}

}  // namespace

Outcome RunHandoff(const Scenario& scenario) { return Run(scenario).Go(); }

}  // namespace tsc_handoff::clock_sim
