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

// What a TSC that somebody wrote, or a master clock that is off, does to guests is worth a look.
std::string Trouble(const v1::Vm& vm) {
  if (!vm.has_observation()) return "";
  const v1::TscObservation& seen = vm.observation();
  if (seen.changed_on_its_own() > 0)
    return absl::StrCat("its phase changed on its own, ", seen.changed_on_its_own(), " times");
  return seen.offsets_equal() ? "" : "master clock off: its vCPUs' TSCs differ";
}

Cell SpreadCell(const v1::Vm& vm) {
  return vm.has_observation() ? Number(vm.observation().phase_spread_ticks()) : Cell{.text = "-"};
}

// Equal offsets are what KVM needs for it; whether it is on no agent sees from outside.
Cell MasterClockCell(const v1::Vm& vm) {
  if (!vm.has_observation()) return {.text = "-"};
  return vm.observation().offsets_equal() ? Cell{.text = "ok"}
                                          : Cell{.text = "off", .look = Look::kWarning};
}

Cell NoteCell(const v1::Vm& vm) {
  if (RunsWithoutPermit(vm))
    return {.text = "RUNS THOUGH IT MAY NOT: " + AsciiText(vm.may_not_run_reason()),
            .look = Look::kBad};
  if (const std::string trouble = Trouble(vm); !trouble.empty())
    return {.text = trouble, .look = Look::kWarning};
  if (!vm.unreachable_reason().empty())
    return {.text = AsciiText(vm.unreachable_reason()), .look = Look::kDim};
  return {.text = AsciiText(vm.may_not_run_reason()), .look = Look::kDim};
}

Row VmRow(const AgentView& agent, size_t index, const v1::Vm& vm) {
  Row row{.id = {.agent = index, .name = vm.vm_id()},
          .severity = RunsWithoutPermit(vm)  ? Severity::kBad
                      : !Trouble(vm).empty() ? Severity::kWarning
                                             : Severity::kNormal,
          .past = !agent.error.empty()};
  row.cells.push_back({.text = AsciiText(vm.vm_id()), .look = Look::kBold});
  row.cells.push_back({.text = NameOf(agent)});
  row.cells.push_back(StateCell(vm));
  row.cells.push_back({.text = vm.may_run() ? "yes" : "no"});
  row.cells.push_back(Number(vm.vcpu_count()));
  row.cells.push_back(SpreadCell(vm));
  row.cells.push_back(MasterClockCell(vm));
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
                   {.title = "MAY RUN", .leave_out = 4},
                   {.title = "VCPUS", .right = true, .leave_out = 5},
                   {.title = "SPREAD", .right = true, .leave_out = 2},
                   {.title = "MASTER", .leave_out = 3},
                   {.title = "PORT", .leave_out = 6},
                   {.title = "EPOCH", .right = true, .leave_out = 7},
                   {.title = "PID", .right = true, .leave_out = 8},
                   {.title = "NOTE", .stretches = true}};
  for (size_t i = 0; i < snapshot.agents.size(); ++i) {
    const AgentView& agent = snapshot.agents[i];
    for (const v1::Vm& vm : agent.vms) table.rows.push_back(VmRow(agent, i, vm));
  }
  return table;
}

}  // namespace tsc_handoff::tscctl
