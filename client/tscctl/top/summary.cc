#include "client/tscctl/top/summary.h"

#include "absl/strings/str_cat.h"
#include "client/tscctl/format.h"
#include "client/tscctl/watch/events.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

std::string Count(size_t count, const char* one, const char* many) {
  return absl::StrCat(Thousands(count), " ", count == 1 ? one : many);
}

}  // namespace

Summary Summarise(const Snapshot& snapshot) {
  size_t away = 0, unfit = 0, untrusted = 0, vms = 0, running = 0, unpermitted = 0, pending = 0,
         undecided = 0;
  for (const AgentView& agent : snapshot.agents) {
    const bool is_away = !agent.error.empty();
    if (is_away) ++away;
    if (!is_away && agent.answered.has_value()) {
      const v1::HostInfo& host = agent.host;
      if (!host.clock().trusted()) ++untrusted;
      if (!host.kvm_available() || !host.tsc_stable() || !host.journal_unavailable_reason().empty())
        ++unfit;
    }
    for (const v1::Vm& vm : agent.vms) {
      ++vms;
      const bool runs = vm.run_state() == v1::Vm::RUN_STATE_RUNNING;
      if (runs) ++running;
      if (runs && !vm.may_run()) ++unpermitted;
    }
    for (const v1::Handoff& handoff : agent.handoffs) {
      if (!IsPending(handoff.state())) continue;
      ++pending;
      if (handoff.undecided()) ++undecided;
    }
  }
  Summary summary;
  const auto alarm = [&summary](size_t count, const char* one, const char* many) {
    if (count > 0) summary.alarms.push_back(Count(count, one, many));
  };
  alarm(unpermitted, "VM runs without permit", "VMs run without permit");
  alarm(undecided, "handoff undecided", "handoffs undecided");
  alarm(away, "agent away", "agents away");
  alarm(unfit, "host unfit", "hosts unfit");
  alarm(untrusted, "clock untrusted", "clocks untrusted");
  summary.counts = {Count(snapshot.agents.size(), "host", "hosts"), Count(vms, "VM", "VMs"),
                    absl::StrCat(Thousands(running), " running"),
                    Count(pending, "handoff pending", "handoffs pending")};
  return summary;
}

}  // namespace tsc_handoff::tscctl
