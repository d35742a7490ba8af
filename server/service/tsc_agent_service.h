// The TscAgent gRPC service: checks, calls the core, converts, counts, and logs each refusal once.
//
// Threading: gRPC's callback API calls the methods from its own threads. What may block on a VM
// goes to the worker pool.
#ifndef TSC_HANDOFF_SERVER_SERVICE_TSC_AGENT_SERVICE_H_
#define TSC_HANDOFF_SERVER_SERVICE_TSC_AGENT_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>
#include <vector>

#include "server/handoff/timekeeper.h"
#include "server/handoff/tsc_operations.h"
#include "server/host/host_facts.h"
#include "server/metrics/metrics.h"
#include "server/registry/vm_registry.h"
#include "server/service/worker_pool.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::service {

class TscAgentService final : public tschandoff::v1::TscAgent::CallbackService {
 public:
  // All outlive this; so does the server that this is registered with end before them.
  struct Parts {
    const host::HostFacts& host;
    registry::VmRegistry& registry;
    handoff::Timekeeper& timekeeper;
    handoff::TscOperations& operations;
    metrics::Metrics& metrics;
    WorkerPool& pool;
    std::function<std::string()> peer_address;  // where other hosts reach this agent; empty: none
  };

  explicit TscAgentService(const Parts& parts) : parts_(parts) {}

  // Names of the service's methods, for the metrics.
  static std::vector<std::string> MethodNames();

  grpc::ServerUnaryReactor* GetHostInfo(grpc::CallbackServerContext* context,
                                        const tschandoff::v1::GetHostInfoRequest* request,
                                        tschandoff::v1::GetHostInfoResponse* response) override;
  grpc::ServerUnaryReactor* ListVms(grpc::CallbackServerContext* context,
                                    const tschandoff::v1::ListVmsRequest* request,
                                    tschandoff::v1::ListVmsResponse* response) override;
  grpc::ServerUnaryReactor* GetVm(grpc::CallbackServerContext* context,
                                  const tschandoff::v1::GetVmRequest* request,
                                  tschandoff::v1::GetVmResponse* response) override;
  grpc::ServerUnaryReactor* GetTscState(grpc::CallbackServerContext* context,
                                        const tschandoff::v1::GetTscStateRequest* request,
                                        tschandoff::v1::GetTscStateResponse* response) override;
  grpc::ServerUnaryReactor* SetTscState(grpc::CallbackServerContext* context,
                                        const tschandoff::v1::SetTscStateRequest* request,
                                        tschandoff::v1::SetTscStateResponse* response) override;
  grpc::ServerUnaryReactor* ProbeClock(grpc::CallbackServerContext* context,
                                       const tschandoff::v1::ProbeClockRequest* request,
                                       tschandoff::v1::ProbeClockResponse* response) override;
  grpc::ServerUnaryReactor* CompareClocks(grpc::CallbackServerContext* context,
                                          const tschandoff::v1::CompareClocksRequest* request,
                                          tschandoff::v1::CompareClocksResponse* response) override;

 private:
  using Work = std::function<absl::Status()>;

  // Runs `work` at once, or in the pool, and finishes the call with its result.
  grpc::ServerUnaryReactor* RunHere(grpc::CallbackServerContext* context, const char* method,
                                    const Work& work);
  grpc::ServerUnaryReactor* RunInPool(grpc::CallbackServerContext* context, const char* method,
                                      Work work);
  void Finish(grpc::CallbackServerContext* context, grpc::ServerUnaryReactor* reactor,
              const char* method, absl::Time started, const absl::Status& status);

  absl::Status DoListVms(const tschandoff::v1::ListVmsRequest& request,
                         tschandoff::v1::ListVmsResponse& response);
  absl::Status DoGetVm(const std::string& vm_id, tschandoff::v1::GetVmResponse& response);
  absl::Status DoGetTscState(const std::string& vm_id,
                             tschandoff::v1::GetTscStateResponse& response);
  absl::Status DoSetTscState(const grpc::CallbackServerContext& context,
                             const tschandoff::v1::SetTscStateRequest& request,
                             tschandoff::v1::SetTscStateResponse& response);
  absl::Status DoProbeClock(tschandoff::v1::ProbeClockResponse& response);
  absl::Status DoCompareClocks(const std::string& peer,
                               tschandoff::v1::CompareClocksResponse& response);
  void CountIoctlError(const absl::Status& status);

  const Parts parts_;
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_TSC_AGENT_SERVICE_H_
