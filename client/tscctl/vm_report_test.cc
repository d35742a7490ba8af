#include "client/tscctl/vm_report.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

std::string Print(const std::vector<v1::Vm>& vms) {
  std::ostringstream out;
  Io io{out, out, Palette(false), Palette(false)};
  PrintVms(vms, "unix:/a.sock", io);
  return out.str();
}

v1::Vm Cooperative() {
  v1::Vm vm;
  vm.set_vm_id("db-7");
  vm.set_vcpu_count(8);
  vm.set_vmm_pid(4711);
  vm.set_port(v1::Vm::PORT_COOPERATIVE);
  vm.set_run_state(v1::Vm::RUN_STATE_RUNNING);
  vm.set_may_run(true);
  return vm;
}

v1::Vm Attached() {
  v1::Vm vm = Cooperative();
  vm.set_vm_id("web1");
  vm.set_vmm_pid(70);
  vm.set_port(v1::Vm::PORT_ATTACHED);
  vm.set_run_state(v1::Vm::RUN_STATE_PAUSED);
  vm.mutable_observation()->set_phase_spread_ticks(36'974'770);
  return vm;
}

v1::Vm OnlySeen() {
  v1::Vm vm = Attached();
  vm.set_vm_id("web2");
  vm.set_port(v1::Vm::PORT_NONE);
  vm.set_run_state(v1::Vm::RUN_STATE_UNSPECIFIED);
  vm.mutable_observation()->set_phase_spread_ticks(0);
  vm.mutable_observation()->set_offsets_equal(true);
  vm.set_unreachable(v1::ATTACH_DENIED);
  vm.set_unreachable_reason("attaching is switched off (--attach)");
  return vm;
}

TEST(PrintVms, ShowsWhatIsPossibleWithEach) {
  EXPECT_EQ(
      Print({Cooperative(), Attached(), OnlySeen()}),
      "VM    VCPUS  STATE    PORT         HANDOFF  MAY RUN  PHASE SPREAD (ticks)  EQUAL   PID\n"
      "db-7      8  running  cooperative  yes      yes                         -  -      4711\n"
      "web1      8  paused   attached     yes      yes                36,974,770  no       70\n"
      "web2      8  ?        none         no       yes                         0  yes      70\n"
      "\n"
      "web2: no get, set or handoff: attaching is switched off (--attach) [ATTACH_DENIED]\n");
}

TEST(PrintVms, SaysWhatIsOddBelowTheTable) {
  v1::Vm vm = Attached();
  vm.set_may_run(false);
  vm.set_may_not_run_reason("it was released to another host by handoff h1");
  vm.mutable_observation()->set_changed_on_its_own(1);
  vm.mutable_observation()->set_scaled(true);
  const std::string text = Print({vm});
  EXPECT_EQ(text.substr(text.find("\n\n") + 2),
            "web1: may not run: it was released to another host by handoff h1\n"
            "web1: its phase spread changed on its own once: the guest or its VMM wrote a TSC\n"
            "web1: KVM scales its TSC to its own frequency\n");
}

TEST(PrintVms, WithoutVmsSaysSo) { EXPECT_EQ(Print({}), "No VMs are known at unix:/a.sock.\n"); }

TEST(PrintVms, WhatAnAgentSaysDoesNotSteerTheTerminal) {
  v1::Vm vm = OnlySeen();
  vm.set_unreachable_reason("\x1b[2Jgone");
  EXPECT_EQ(Print({vm}).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
