#include "tests/simulate/orchestrator.h"

#include <utility>

namespace tsc_handoff::simulate {
namespace {

using client::AgentCall;
using client::HandoffGoal;

client::HandoffRunOptions OptionsOf(Context& context, const Task& task) {
  client::HandoffRunOptions options;
  options.goal = task.goal;
  options.handoff_id = task.handoff_id;
  if (task.goal == HandoffGoal::kFinish) {
    options.source_vm_id = task.vm_id;
    options.apply.set_vm_id(task.vm_id);
  }
  options.apply.set_mode(task.exact ? tschandoff::v1::APPLY_MODE_EXACT
                                    : tschandoff::v1::APPLY_MODE_ELAPSED);
  if (task.otherwise) options.apply.set_max_elapsed_ns(250'000'000'000);
  options.random = [&random = context.random()] {
    return static_cast<double>(random.Between(0, 999)) / 1000.0;
  };
  return options;
}

const char* Name(HandoffGoal goal) {
  switch (goal) {
    case HandoffGoal::kFinish:
      return "begins";
    case HandoffGoal::kResume:
      return "resumes";
    case HandoffGoal::kAbort:
      return "aborts";
  }
  return "?";
}

}  // namespace

Orchestrator::Orchestrator(Context& context, Network& network, const Task& task, Ended ended)
    : context_(context),
      network_(network),
      task_(task),
      ended_(std::move(ended)),
      run_(OptionsOf(context, task)) {}

void Orchestrator::Start(Context& context, Network& network, const Task& task, Ended ended) {
  const std::shared_ptr<Orchestrator> one(
      new Orchestrator(context, network, task, std::move(ended)));
  context.Note("an orchestrator ", Name(task.goal), " handoff ", task.handoff_id, " of ",
               task.vm_id, " from host ", task.source->name(), " to host ",
               task.destination->name());
  one->Go();
}

void Orchestrator::Go() {
  const AgentCall* call = run_.next();
  if (call == nullptr) {
    if (context_.tracing())
      context_.Note("handoff ", task_.handoff_id,
                    ": an orchestrator has ended: ", static_cast<int>(run_.result().end), ", ",
                    run_.result().status.ToString());
    return End(&run_.result());
  }
  const int64_t delay_ps = absl::ToInt64Nanoseconds(call->delay) * clock_sim::kPsPerNs;
  if (delay_ps == 0) return Send();
  context_.After(delay_ps, [self = shared_from_this()] { self->Send(); });
}

void Orchestrator::End(const client::HandoffResult* result) {
  if (over_) return;
  over_ = true;
  ended_(result);
}

void Orchestrator::Send() {
  if (over_) return;
  const bool dies = context_.Strikes(context_.faults().orchestrator_dies);
  const bool sends = !dies || context_.random().Percent(50);
  const AgentCall& call = *run_.next();
  Host& host = call.at == client::At::kSource ? *task_.source : *task_.destination;
  if (sends) {
    if (context_.tracing())
      context_.Note("handoff ", task_.handoff_id, ": ", client::NameOf(call.step), " at host ",
                    host.name());
    network_.Call(host, std::make_shared<const client::AgentRequest>(call.request), alive_,
                  [self = shared_from_this()](absl::StatusOr<client::AgentAnswer> answer) {
                    if (self->over_) return;
                    self->run_.Answer(std::move(answer));
                    self->Go();
                  });
  }
  if (!dies) return;
  context_.Count(Fact::kOrchestratorDied);
  context_.Note("handoff ", task_.handoff_id, ": an orchestrator dies");
  // A call of which nobody will hear goes on, until its agent notices.
  context_.After(context_.random().OctaveBetween(kPsPerUs, 100 * kPsPerMs),
                 [self = shared_from_this()] {
                   self->alive_.reset();
                   self->End(nullptr);
                 });
}

}  // namespace tsc_handoff::simulate
