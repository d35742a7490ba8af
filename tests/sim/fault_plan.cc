#include "tests/sim/fault_plan.h"

namespace tsc_handoff::sim {

std::optional<Fault> FaultPlan::Next(const SimCall& call) {
  std::optional<Fault> hit;
  for (Rule& rule : rules_) {
    if (rule.fault.request && *rule.fault.request != call.request) continue;
    if (rule.fault.vcpu_id && *rule.fault.vcpu_id != call.vcpu_id) continue;
    ++rule.seen;
    bool now = rule.fault.always ? rule.seen >= rule.fault.nth : rule.seen == rule.fault.nth;
    if (now && !hit) hit = rule.fault;
  }
  return hit;
}

}  // namespace tsc_handoff::sim
