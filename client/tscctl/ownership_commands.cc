#include "client/tscctl/ownership_commands.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/format.h"
#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;
using Json = nlohmann::ordered_json;

// A failure of this program's own: nothing was asked for.
Failure Unfit(const std::string& message, const std::string& next_step) {
  Failure failure{absl::FailedPreconditionError(message)};
  failure.next_step = next_step;
  return failure;
}

// Has the agent to which the VM was released disown it; its highest epoch there.
Result HaveDisowned(const Options& options, const std::string& handoff_id,
                    client::AgentClient& agent, uint64_t& epoch) {
  const auto known = agent.GetHandoff(handoff_id);
  if (!known.ok()) return CallFailure(known.status(), absl::StrCat("reclaim ", options.vm));
  if (!known->has_source()) {
    return Unfit(absl::StrCat("handoff ", handoff_id, " was to bring VM ", options.vm, " to ",
                              options.agent, ", not to take it away: nobody has it to disown"),
                 "See that the VM is not with the handoff's source; then use --runs-nowhere-else.");
  }
  const auto other = ConnectTo(options.from, options);
  if (!other.ok()) return UsageFailure(other.status().message(), "tscctl reclaim --help");
  const auto disowned =
      (*other)->DisownVm(known->source().ticket().destination_vm_id(), handoff_id);
  if (!disowned.ok())
    return CallFailure(disowned.status(),
                       absl::StrCat("disown ", options.vm, " at ", options.from));
  epoch = disowned->epoch();
  return std::nullopt;
}

}  // namespace

Result RunReclaim(const Options& options, client::AgentClient& agent, Io& io) {
  const auto vm = agent.GetVm(options.vm);
  if (!vm.ok()) return CallFailure(vm.status(), absl::StrCat("reclaim ", options.vm));
  v1::ReclaimVmRequest request;
  request.set_vm_id(options.vm);
  request.set_handoff_id(options.handoff_id.empty() ? vm->handoff_id() : options.handoff_id);
  request.set_runs_nowhere_else(true);
  request.set_epoch_above(options.epoch_above);
  if (request.handoff_id().empty()) {
    return Unfit(absl::StrCat("VM ", options.vm, " was never handed off at ", options.agent),
                 "There is nothing to reclaim; `tscctl vms` shows what may run.");
  }
  if (!options.from.empty()) {
    uint64_t epoch = 0;
    if (Result failure = HaveDisowned(options, request.handoff_id(), agent, epoch)) return failure;
    request.set_epoch_above(std::max(request.epoch_above(), epoch));
  }
  const auto reclaimed = agent.ReclaimVm(request);
  if (!reclaimed.ok()) {
    Failure failure = CallFailure(reclaimed.status(), absl::StrCat("reclaim ", options.vm));
    if (!options.from.empty())
      failure.situation = absl::StrCat("The agent at ", options.from,
                                       " has disowned the VM: no host lets it run until this "
                                       "command has succeeded.");
    return failure;
  }
  if (io.json) {
    io.out << DumpJson({{"vm", options.vm},
                        {"handoff_id", request.handoff_id()},
                        {"epoch", reclaimed->epoch()},
                        {"repeated", reclaimed->repeated()},
                        {"disowned_by", options.from.empty() ? Json() : Json(options.from)}});
    return std::nullopt;
  }
  io.out << "VM " << Printable(options.vm) << " is this host's again and may run, with epoch "
         << reclaimed->epoch() << (reclaimed->repeated() ? "; it was reclaimed before.\n" : ".\n");
  return std::nullopt;
}

Result RunDisown(const Options& options, client::AgentClient& agent, Io& io) {
  const auto disowned = agent.DisownVm(options.vm, options.handoff_id);
  if (!disowned.ok()) return CallFailure(disowned.status(), absl::StrCat("disown ", options.vm));
  if (io.json) {
    io.out << DumpJson({{"vm", options.vm},
                        {"handoff_id", options.handoff_id},
                        {"epoch", disowned->epoch()},
                        {"repeated", disowned->repeated()}});
    return std::nullopt;
  }
  io.out << "VM " << Printable(options.vm) << " is this host's no more, until a handoff brings it"
         << (disowned->repeated() ? "; it was disowned before.\n" : ".\n");
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
