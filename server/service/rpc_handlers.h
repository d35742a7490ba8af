// What each RPC of TscAgent does, without gRPC: checks the request, calls the core, converts the
// answer, counts and logs. The simulation of the protocol runs the same code.
//
// Threading: thread-safe. The methods that are said to block do so for a VM's port, the journal's
// sync or a peer; the others answer at once.
#ifndef TSC_HANDOFF_SERVER_SERVICE_RPC_HANDLERS_H_
#define TSC_HANDOFF_SERVER_SERVICE_RPC_HANDLERS_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/base/stopwatch.h"
#include "server/handoff/handoff_controller.h"
#include "server/handoff/timekeeper.h"
#include "server/handoff/tsc_operations.h"
#include "server/host/host_facts.h"
#include "server/journal/journal.h"
#include "server/metrics/metrics.h"
#include "server/observe/observations.h"
#include "server/registry/vm_registry.h"
#include "server/service/call_note.h"
#include "server/service/reload.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::service {

// What is known of a call besides its request.
struct CallInfo {
  static constexpr int64_t kNoDeadline = std::numeric_limits<int64_t>::max();
  int64_t time_left_ns = kNoDeadline;
  std::function<bool()> cancelled;  // empty: never
  // Takes what is to be done when the caller has his answer. Empty: it is done at once.
  std::function<void(std::function<void()>)> afterwards;
  // Which VMs there are for this caller. Empty: all. That he may do something with the VM that his
  // request names has been found out before.
  std::function<bool(const std::string& vm_id)> may_see = {};
  CallNote* note = nullptr;  // OPTIONAL. Takes what the call was about
};

class RpcHandlers {
 public:
  // All outlive this.
  struct Parts {
    const host::HostFacts& host;
    registry::VmRegistry& registry;
    handoff::Timekeeper& timekeeper;
    handoff::TscOperations& operations;
    handoff::HandoffController& handoffs;
    journal::Journal& journal;
    metrics::Metrics* metrics = nullptr;             // OPTIONAL
    std::function<std::string()> peer_address = {};  // where other hosts reach this agent
    std::function<void(bool)> drain = {};            // OPTIONAL. Has draining begin or end
    Reloader reload = {};                            // OPTIONAL
    // OPTIONAL. What was last seen of a VM's TSCs from outside.
    std::function<std::optional<observe::Observation>(const registry::VmIdentity&)> observation_of =
        {};
  };

  explicit RpcHandlers(const Parts& parts) : parts_(parts) {}

  absl::Status GetHostInfo(const CallInfo& call, tschandoff::v1::GetHostInfoResponse& response);
  absl::Status ListVms(const CallInfo& call, const tschandoff::v1::ListVmsRequest& request,
                       tschandoff::v1::ListVmsResponse& response);
  // Blocks.
  absl::Status GetVm(const tschandoff::v1::GetVmRequest& request,
                     tschandoff::v1::GetVmResponse& response);
  // Blocks.
  absl::Status GetTscState(const CallInfo& call, const tschandoff::v1::GetTscStateRequest& request,
                           tschandoff::v1::GetTscStateResponse& response);
  // Blocks.
  absl::Status SetTscState(const CallInfo& call, const tschandoff::v1::SetTscStateRequest& request,
                           tschandoff::v1::SetTscStateResponse& response);
  // Blocks.
  absl::Status CommitHandoff(const CallInfo& call,
                             const tschandoff::v1::CommitHandoffRequest& request,
                             tschandoff::v1::CommitHandoffResponse& response);
  // Blocks.
  absl::Status AbortHandoff(const CallInfo& call,
                            const tschandoff::v1::AbortHandoffRequest& request,
                            tschandoff::v1::AbortHandoffResponse& response);
  // Blocks.
  absl::Status ReclaimVm(const CallInfo& call, const tschandoff::v1::ReclaimVmRequest& request,
                         tschandoff::v1::ReclaimVmResponse& response);
  // Blocks.
  absl::Status DisownVm(const CallInfo& call, const tschandoff::v1::DisownVmRequest& request,
                        tschandoff::v1::DisownVmResponse& response);
  absl::Status GetHandoff(const CallInfo& call, const tschandoff::v1::GetHandoffRequest& request,
                          tschandoff::v1::GetHandoffResponse& response);
  absl::Status ListHandoffs(const CallInfo& call,
                            const tschandoff::v1::ListHandoffsRequest& request,
                            tschandoff::v1::ListHandoffsResponse& response);
  absl::Status Drain(const CallInfo& call, const tschandoff::v1::DrainRequest& request,
                     tschandoff::v1::DrainResponse& response);
  // Blocks.
  absl::Status Reload(const CallInfo& call, tschandoff::v1::ReloadResponse& response);
  absl::Status ProbeClock(tschandoff::v1::ProbeClockResponse& response);
  // Blocks.
  absl::Status CompareClocks(const tschandoff::v1::CompareClocksRequest& request,
                             tschandoff::v1::CompareClocksResponse& response);

 private:
  absl::Status Capture(const CallInfo& call, const tschandoff::v1::GetTscStateRequest& request,
                       tschandoff::v1::GetTscStateResponse& response);
  absl::Status Apply(const CallInfo& call, const tschandoff::v1::SetTscStateRequest& request,
                     tschandoff::v1::SetTscStateResponse& response);
  template <typename Response>
  absl::Status Settle(const CallInfo& call, const handoff::ClaimCall& claim, Response& response);
  // Of those that there are for this caller.
  size_t CountVms(const CallInfo& call) const;
  // Not OK: for this caller there is no such handoff.
  absl::Status CheckMaySee(const CallInfo& call, const std::string& handoff_id) const;
  void Applied(const std::string& vm_id, const handoff::ApplyOutcome& outcome);
  void CountFault(const absl::Status& status);
  void PhaseDone(metrics::Phase phase, const absl::Status& status, const Stopwatch& watch);
  tschandoff::v1::Vm Describe(const registry::RegisteredVm& vm) const;

  const Parts parts_;
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_RPC_HANDLERS_H_
