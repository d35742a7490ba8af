#include "client/tscctl/vm_report.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "client/tscctl/format.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Align = Table::Align;

std::string PortName(v1::Vm::Port port) {
  switch (port) {
    case v1::Vm::PORT_IN_PROCESS:
      return "in-process";
    case v1::Vm::PORT_COOPERATIVE:
      return "cooperative";
    case v1::Vm::PORT_ATTACHED:
      return "attached";
    case v1::Vm::PORT_NONE:
      return "none";
    default:
      return "?";
  }
}

std::string StateName(v1::Vm::RunState state) {
  switch (state) {
    case v1::Vm::RUN_STATE_PAUSED:
      return "paused";
    case v1::Vm::RUN_STATE_RUNNING:
      return "running";
    default:
      return "?";
  }
}

bool IsReachable(const v1::Vm& vm) { return vm.unreachable() == v1::ERROR_REASON_UNSPECIFIED; }

// Of agents that know what is odd about a TSC that they did not touch.
std::string PhaseSpread(const v1::Vm& vm) {
  return vm.has_observation() ? Thousands(vm.observation().phase_spread_ticks()) : "-";
}

std::string Equal(const v1::Vm& vm) {
  if (!vm.has_observation()) return "-";
  return vm.observation().offsets_equal() ? "yes" : "no";
}

std::string Times(uint64_t count) {
  return count == 1 ? "once" : absl::StrCat(Thousands(count), " times");
}

// What the table has no room for.
std::vector<std::string> NotesOn(const v1::Vm& vm) {
  std::vector<std::string> notes;
  if (!IsReachable(vm)) {
    notes.push_back(absl::StrCat("no get, set or handoff: ", Printable(vm.unreachable_reason()),
                                 " [", v1::ErrorReason_Name(vm.unreachable()), "]"));
  }
  if (!vm.may_run())
    notes.push_back(absl::StrCat("may not run: ", Printable(vm.may_not_run_reason())));
  if (const uint64_t changes = vm.observation().changed_on_its_own(); changes > 0) {
    notes.push_back(absl::StrCat("its phase spread changed on its own ", Times(changes),
                                 ": the guest or its VMM wrote a TSC"));
  }
  if (vm.observation().scaled()) notes.push_back("KVM scales its TSC to its own frequency");
  return notes;
}

}  // namespace

void PrintVms(const std::vector<v1::Vm>& vms, absl::string_view agent, Io& io) {
  if (vms.empty()) {
    io.out << "No VMs are known at " << Printable(agent) << ".\n";
    return;
  }
  Table table({{"VM"},
               {"VCPUS", Align::kRight},
               {"STATE"},
               {"PORT"},
               {"HANDOFF"},
               {"MAY RUN"},
               {"PHASE SPREAD (ticks)", Align::kRight},
               {"EQUAL"},
               {"PID", Align::kRight}});
  for (const v1::Vm& vm : vms) {
    table.Add({Printable(vm.vm_id()), Thousands(vm.vcpu_count()), StateName(vm.run_state()),
               PortName(vm.port()), IsReachable(vm) ? "yes" : "no", vm.may_run() ? "yes" : "no",
               PhaseSpread(vm), Equal(vm), vm.vmm_pid() == 0 ? "-" : absl::StrCat(vm.vmm_pid())});
  }
  table.Print(io.out_palette, io.out);
  bool first = true;
  for (const v1::Vm& vm : vms) {
    for (const std::string& note : NotesOn(vm)) {
      if (first) io.out << "\n";
      first = false;
      io.out << io.out_palette.Bold(Printable(vm.vm_id())) << ": " << note << "\n";
    }
  }
}

}  // namespace tsc_handoff::tscctl
