#include "client/tscctl/top/top_testing.h"

namespace tsc_handoff::tscctl {

namespace v1 = ::tschandoff::v1;

Moment TestNow() {
  return {.steady = SteadyTime(std::chrono::hours(100)),
          .wall = absl::FromUnixNanos(1'700'000'000'000'000'000)};
}

AgentView MakeAgent(const std::string& name) {
  AgentView agent{.address = name + ":50051"};
  agent.answered = TestNow().steady;
  agent.host.set_host_name(name);
  agent.host.set_agent_version("1.2.3");
  agent.host.set_agent_id(name + std::string(16 - name.size(), '.'));
  agent.host.set_tsc_khz(2'600'000);
  agent.host.set_tsc_stable(true);
  agent.host.set_kvm_available(true);
  v1::ClockInfo* clock = agent.host.mutable_clock();
  clock->set_trusted(true);
  clock->set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
  clock->set_error_bound_ns(20'000);
  clock->set_age_ns(1'200'000'000);
  clock->set_source("chrony");
  return agent;
}

v1::Vm MakeVm(const std::string& id, bool running) {
  v1::Vm vm;
  vm.set_vm_id(id);
  vm.set_vcpu_count(4);
  vm.set_vmm_pid(4711);
  vm.set_port(v1::Vm::PORT_COOPERATIVE);
  vm.set_run_state(running ? v1::Vm::RUN_STATE_RUNNING : v1::Vm::RUN_STATE_PAUSED);
  vm.set_may_run(true);
  return vm;
}

v1::Handoff MakeHandoff(const std::string& id, const std::string& vm_id) {
  v1::Handoff handoff;
  handoff.set_handoff_id(id);
  handoff.set_side(v1::Handoff::SIDE_SOURCE);
  handoff.set_state(v1::Handoff::STATE_CAPTURED);
  handoff.set_vm_id(vm_id);
  handoff.mutable_ticket()->set_epoch(3);
  handoff.mutable_ticket()->set_destination_vm_id(vm_id);
  handoff.set_begun_at_ns(absl::ToUnixNanos(TestNow().wall) - 2'000'000'000);
  handoff.set_changed_at_ns(handoff.begun_at_ns());
  handoff.set_silent_ns(1'500'000'000);
  return handoff;
}

std::string TextOf(const Line& line) {
  std::string text;
  for (const Span& span : line) text += span.text;
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::vector<std::string> TextOf(const Screen& screen) {
  std::vector<std::string> lines;
  for (const Line& line : screen.lines) lines.push_back(TextOf(line));
  return lines;
}

}  // namespace tsc_handoff::tscctl
