#include "server/handoff/permit_rule.h"

#include <gtest/gtest.h>

#include <string>

namespace tsc_handoff::handoff {
namespace {

using journal::HandoffRecord;
using journal::Standing;
using journal::State;

const std::string kHere(16, 'a');
const std::string kElsewhere(16, 'b');

struct Row {
  const char* what;
  Standing standing;
  bool awaits_handoff;
  const std::string* arrived_at;  // the VMM that the state was applied to
  bool granted;
  const char* why_not;
};

// The VM's present VMM is kHere.
const Row kRows[] = {
    {"never handed off", Standing::kUnknown, false, nullptr, true, ""},
    {"waits for its first handoff", Standing::kUnknown, true, nullptr, false, "none has arrived"},
    {"arrived", Standing::kOwned, true, &kHere, true, ""},
    {"arrived, and its VMM began anew", Standing::kOwned, false, &kElsewhere, true, ""},
    {"arrived at a VMM that is gone", Standing::kOwned, true, &kElsewhere, false, "earlier VMM"},
    {"released", Standing::kReleased, false, nullptr, false, "released to another host"},
    {"released, waits to come back", Standing::kReleased, true, nullptr, false, "released"},
    {"has not arrived", Standing::kAwaited, false, nullptr, false, "was to bring it"},
    {"reclaimed", Standing::kReclaimed, false, &kElsewhere, true, ""},
    {"reclaimed with a VMM that waits", Standing::kReclaimed, true, &kHere, true, ""},
    {"reclaimed, and another VMM waits", Standing::kReclaimed, true, &kElsewhere, false,
     "since it was reclaimed"},
    {"disowned", Standing::kDisowned, false, nullptr, false, "disowned"},
};

TEST(PermitRuleTest, AVmMayRunWhereItsStandingSaysSo) {
  for (const Row& row : kRows) {
    VmFacts vm;
    vm.record.vm_id = "vm";
    vm.record.standing = row.standing;
    vm.record.handoff_id = "h1";
    vm.record.highest_epoch = 7;
    if (row.arrived_at != nullptr) vm.record.vmm_instance = *row.arrived_at;
    vm.awaits_handoff = row.awaits_handoff;
    vm.vmm_instance = kHere;
    const port::Permit permit = PermitFor(vm);
    EXPECT_EQ(permit.granted, row.granted) << row.what;
    EXPECT_EQ(permit.epoch, 7u) << row.what;
    EXPECT_EQ(permit.reason.empty(), row.granted) << row.what;
    EXPECT_NE(permit.reason.find(row.why_not), std::string::npos) << row.what << permit.reason;
  }
}

TEST(PermitRuleTest, NoVmRunsWhileItsTscsAreSpokenFor) {
  for (const State state : {State::kCaptured, State::kApplying, State::kApplied}) {
    HandoffRecord record;
    record.ticket.handoff_id = "h2";
    record.state = state;
    for (const Standing standing : {Standing::kUnknown, Standing::kOwned, Standing::kReleased}) {
      VmFacts vm;
      vm.record.standing = standing;
      vm.occupied_by = &record;
      const port::Permit permit = PermitFor(vm);
      EXPECT_FALSE(permit.granted);
      EXPECT_NE(permit.reason.find("h2"), std::string::npos) << permit.reason;
    }
  }
}

}  // namespace
}  // namespace tsc_handoff::handoff
