#include <string>

#include "absl/strings/str_cat.h"
#include "client/tscctl/format.h"
#include "client/tscctl/names.h"
#include "client/tscctl/top/tables.h"
#include "client/tscctl/top/text.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

bool RunsWithoutPermit(const v1::Vm& vm) {
  return !vm.may_run() && vm.run_state() == v1::Vm::RUN_STATE_RUNNING;
}

Cell Number(uint64_t value) {
  return {.text = Thousands(value), .number = static_cast<double>(value)};
}

Cell StateCell(const v1::Vm& vm) {
  return {.text = RunStateName(vm.run_state()),
          .look = RunsWithoutPermit(vm)                         ? Look::kBad
                  : vm.run_state() == v1::Vm::RUN_STATE_RUNNING ? Look::kGood
                                                                : Look::kPlain};
}

Cell NoteCell(const v1::Vm& vm) {
  if (RunsWithoutPermit(vm))
    return {.text = "RUNS THOUGH IT MAY NOT: " + AsciiText(vm.may_not_run_reason()),
            .look = Look::kBad};
  return {.text = AsciiText(vm.may_not_run_reason()), .look = Look::kDim};
}

Row VmRow(const AgentView& agent, size_t index, const v1::Vm& vm) {
  Row row{.id = {.agent = index, .name = vm.vm_id()},
          .severity = RunsWithoutPermit(vm) ? Severity::kBad : Severity::kNormal,
          .past = !agent.error.empty()};
  row.cells.push_back({.text = AsciiText(vm.vm_id()), .look = Look::kBold});
  row.cells.push_back({.text = NameOf(agent)});
  row.cells.push_back(StateCell(vm));
  row.cells.push_back({.text = vm.may_run() ? "yes" : "no"});
  row.cells.push_back(Number(vm.vcpu_count()));
  row.cells.push_back({.text = PortName(vm.port())});
  row.cells.push_back(vm.epoch() == 0 ? Cell{.text = "-"} : Number(vm.epoch()));
  row.cells.push_back(vm.vmm_pid() == 0 ? Cell{.text = "-"}
                                        : Cell{.text = absl::StrCat(vm.vmm_pid()),
                                               .number = static_cast<double>(vm.vmm_pid())});
  row.cells.push_back(NoteCell(vm));
  return row;
}

}  // namespace

TopTable VmTable(const Snapshot& snapshot) {
  TopTable table;
  table.columns = {{.title = "VM"},
                   {.title = "HOST", .leave_out = 1},
                   {.title = "STATE"},
                   {.title = "MAY RUN", .leave_out = 2},
                   {.title = "VCPUS", .right = true, .leave_out = 3},
                   {.title = "PORT", .leave_out = 4},
                   {.title = "EPOCH", .right = true, .leave_out = 5},
                   {.title = "PID", .right = true, .leave_out = 6},
                   {.title = "NOTE", .stretches = true}};
  for (size_t i = 0; i < snapshot.agents.size(); ++i) {
    const AgentView& agent = snapshot.agents[i];
    for (const v1::Vm& vm : agent.vms) table.rows.push_back(VmRow(agent, i, vm));
  }
  return table;
}

}  // namespace tsc_handoff::tscctl
