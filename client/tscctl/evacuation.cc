#include "client/tscctl/evacuation.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/connect.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using client::AgentClient;

absl::Status ConnectHost(const std::string& address, const Options& options, EvacuationHost* host) {
  host->address = address;
  auto agent = ConnectTo(address, options);
  if (!agent.ok()) return agent.status();
  host->agent = *std::move(agent);
  const auto info = host->agent->GetHostInfo();
  if (!info.ok()) return client::Annotate(info.status(), absl::StrCat("look at ", address));
  host->agent_id = info->agent_id();
  if (!host->agent_id.empty()) return absl::OkStatus();
  return client::ReasonError(
      absl::StatusCode::kUnavailable, v1::JOURNAL_UNAVAILABLE,
      absl::StrCat("agent ", address, " cannot use its journal, so that it hands nothing over: ",
                   info->journal_unavailable_reason()),
      "Mend what it names, then run the same command again.");
}

// Found out by identity: one agent may have several addresses.
absl::Status SameAgent(const EvacuationHost& a, const EvacuationHost& b) {
  return absl::InvalidArgumentError(
      absl::StrCat(a.address, " and ", b.address, " are the same agent"));
}

EvacuationHost* TargetOf(const v1::Handoff& handoff, Evacuation* evacuation) {
  for (EvacuationHost& target : evacuation->targets) {
    if (handoff.ticket().destination_agent_id() == target.agent_id) return &target;
  }
  return nullptr;
}

// What is pending on the source and none of this evacuation's; whoever empties the host must know.
void LeaveOut(const v1::Handoff& handoff, Evacuation* evacuation) {
  const std::string& id = handoff.handoff_id();
  const bool leaves = handoff.side() == v1::Handoff::SIDE_SOURCE;
  EvacuationDone done;
  done.job = {handoff.vm_id(), id, nullptr};
  done.handoff_id = id;
  done.outcome = leaves ? EvacuationOutcome::kPending : EvacuationOutcome::kSkipped;
  done.why.reason = leaves ? "OTHER_DESTINATION" : "ARRIVING";
  done.why.message =
      leaves ? absl::StrCat("handoff ", id, " gives it to a host that --to does not name")
             : absl::StrCat("handoff ", id, " is bringing it here, and is not finished");
  done.why.next_step =
      "Finish it (`tscctl resume`) or give it up (`tscctl abort`) with the two hosts that it is "
      "of.";
  evacuation->known.insert(handoff.vm_id());
  evacuation->left_out.push_back(std::move(done));
}

}  // namespace

const char* NameOf(EvacuationOutcome outcome) {
  switch (outcome) {
    case EvacuationOutcome::kPending:
      return "pending";
    case EvacuationOutcome::kAborted:
      return "aborted";
    case EvacuationOutcome::kSkipped:
      return "skipped";
    case EvacuationOutcome::kMoved:
      return "moved";
  }
  return "?";
}

absl::Status Connect(const Options& options, Evacuation* evacuation) {
  absl::Status status = ConnectHost(options.from, options, &evacuation->source);
  if (!status.ok()) return status;
  for (const std::string& address : options.targets) {
    EvacuationHost& target = evacuation->targets.emplace_back();
    status = ConnectHost(address, options, &target);
    if (!status.ok()) return status;
    if (target.agent_id == evacuation->source.agent_id)
      return SameAgent(evacuation->source, target);
    for (const EvacuationHost& other : evacuation->targets) {
      if (&other != &target && other.agent_id == target.agent_id) return SameAgent(other, target);
    }
  }
  return absl::OkStatus();
}

absl::Status FindBegun(Evacuation* evacuation) {
  std::set<std::string> ids;
  const auto add = [&](const v1::Handoff& handoff) {
    if (!ids.insert(handoff.handoff_id()).second) return;
    evacuation->known.insert(handoff.vm_id());
    evacuation->jobs.push_back(
        {handoff.vm_id(), handoff.handoff_id(), TargetOf(handoff, evacuation)});
  };
  const AgentClient::HandoffFilter pending = {.vm_id = "", .pending_only = true};
  auto begun = evacuation->source.agent->ListHandoffs(pending);
  if (!begun.ok()) return begun.status();
  for (const v1::Handoff& handoff : *begun) {
    const bool leaves = handoff.side() == v1::Handoff::SIDE_SOURCE;
    if (leaves && TargetOf(handoff, evacuation) != nullptr) {
      add(handoff);
    } else {
      LeaveOut(handoff, evacuation);
    }
  }
  // Released by the source and not arrived, or given up by it: only the destination says so.
  for (EvacuationHost& target : evacuation->targets) {
    begun = target.agent->ListHandoffs(pending);
    if (!begun.ok()) return begun.status();
    for (const v1::Handoff& handoff : *begun) {
      if (handoff.side() == v1::Handoff::SIDE_DESTINATION &&
          handoff.ticket().source_agent_id() == evacuation->source.agent_id)
        add(handoff);
    }
  }
  return absl::OkStatus();
}

absl::Status FindVms(Evacuation* evacuation) {
  std::map<std::string, std::vector<EvacuationHost*>> waiting;
  for (EvacuationHost& target : evacuation->targets) {
    const auto vms = target.agent->ListVms();
    if (!vms.ok()) return vms.status();
    for (const v1::Vm& vm : *vms) {
      if (vm.unreachable() == v1::ERROR_REASON_UNSPECIFIED) waiting[vm.vm_id()].push_back(&target);
    }
  }
  const auto vms = evacuation->source.agent->ListVms();
  if (!vms.ok()) return vms.status();
  for (const v1::Vm& vm : *vms) {
    // One that may not run here has left, or has not arrived: not this host's to hand over.
    if (!vm.may_run() || !evacuation->known.insert(vm.vm_id()).second) continue;
    if (vm.unreachable() != v1::ERROR_REASON_UNSPECIFIED) {
      EvacuationDone done;
      done.job.vm_id = vm.vm_id();
      done.why = {v1::ErrorReason_Name(vm.unreachable()), vm.unreachable_reason(),
                  "Let the agent reach it (`tscctl vms` says what is in the way), or move it by "
                  "other means."};
      evacuation->left_out.push_back(std::move(done));
      continue;
    }
    const auto found = waiting.find(vm.vm_id());
    if (found == waiting.end()) {
      EvacuationDone done;
      done.job.vm_id = vm.vm_id();
      done.why = {"NOT_WAITING", "no destination has a VM of this id",
                  "Create it there, paused, under the same id, then run the same command again."};
      evacuation->left_out.push_back(std::move(done));
      continue;
    }
    EvacuationHost* target =
        *std::min_element(found->second.begin(), found->second.end(),
                          [](const auto* a, const auto* b) { return a->vms < b->vms; });
    ++target->vms;
    evacuation->jobs.push_back({vm.vm_id(), "", target});
  }
  return absl::OkStatus();
}

}  // namespace tsc_handoff::tscctl
