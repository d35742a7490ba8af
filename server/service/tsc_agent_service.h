// The TscAgent gRPC service: threads, deadlines and statuses of the calls; what they do is in
// RpcHandlers, and who may have it done is in CallGuard. Counts each call, and logs each refusal
// once.
//
// Threading: gRPC's callback API calls the methods from its own threads. What may block on a VM
// goes to the worker pool.
#ifndef TSC_HANDOFF_SERVER_SERVICE_TSC_AGENT_SERVICE_H_
#define TSC_HANDOFF_SERVER_SERVICE_TSC_AGENT_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/handoff/handoff_controller.h"
#include "server/metrics/metrics.h"
#include "server/service/call_guard.h"
#include "server/service/handoff_watchers.h"
#include "server/service/rpc_handlers.h"
#include "server/service/worker_pool.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::service {

class TscAgentService final : public tschandoff::v1::TscAgent::CallbackService {
 public:
  // All outlive this; so does the server that this is registered with end before them.
  struct Parts {
    RpcHandlers& handlers;
    handoff::HandoffController& handoffs;
    metrics::Metrics& metrics;
    WorkerPool& pool;
    CallGuard& guard;
    HandoffWatchers::Limits watchers = {};
  };

  explicit TscAgentService(const Parts& parts) : parts_(parts), watchers_(parts.watchers) {}
  // Waits for what is left to do of a step after its answer.
  ~TscAgentService() override;

  // Names of the service's methods, for the metrics.
  static std::vector<std::string> MethodNames();

  // A handoff's change, for those who watch.
  void Changed(const journal::HandoffRecord& record);

  // The policy is another one: streams whose callers may not have them any more end.
  void PolicyChanged();

  // From now on calls are refused with AGENT_STOPPING, and streams end.
  void Stop();

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
  grpc::ServerUnaryReactor* CommitHandoff(grpc::CallbackServerContext* context,
                                          const tschandoff::v1::CommitHandoffRequest* request,
                                          tschandoff::v1::CommitHandoffResponse* response) override;
  grpc::ServerUnaryReactor* AbortHandoff(grpc::CallbackServerContext* context,
                                         const tschandoff::v1::AbortHandoffRequest* request,
                                         tschandoff::v1::AbortHandoffResponse* response) override;
  grpc::ServerUnaryReactor* ReclaimVm(grpc::CallbackServerContext* context,
                                      const tschandoff::v1::ReclaimVmRequest* request,
                                      tschandoff::v1::ReclaimVmResponse* response) override;
  grpc::ServerUnaryReactor* DisownVm(grpc::CallbackServerContext* context,
                                     const tschandoff::v1::DisownVmRequest* request,
                                     tschandoff::v1::DisownVmResponse* response) override;
  grpc::ServerUnaryReactor* GetHandoff(grpc::CallbackServerContext* context,
                                       const tschandoff::v1::GetHandoffRequest* request,
                                       tschandoff::v1::GetHandoffResponse* response) override;
  grpc::ServerUnaryReactor* ListHandoffs(grpc::CallbackServerContext* context,
                                         const tschandoff::v1::ListHandoffsRequest* request,
                                         tschandoff::v1::ListHandoffsResponse* response) override;
  grpc::ServerWriteReactor<tschandoff::v1::WatchHandoffsResponse>* WatchHandoffs(
      grpc::CallbackServerContext* context,
      const tschandoff::v1::WatchHandoffsRequest* request) override;
  grpc::ServerUnaryReactor* ProbeClock(grpc::CallbackServerContext* context,
                                       const tschandoff::v1::ProbeClockRequest* request,
                                       tschandoff::v1::ProbeClockResponse* response) override;
  grpc::ServerUnaryReactor* CompareClocks(grpc::CallbackServerContext* context,
                                          const tschandoff::v1::CompareClocksRequest* request,
                                          tschandoff::v1::CompareClocksResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const tschandoff::v1::DrainRequest* request,
                                  tschandoff::v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* Reload(grpc::CallbackServerContext* context,
                                   const tschandoff::v1::ReloadRequest* request,
                                   tschandoff::v1::ReloadResponse* response) override;

 private:
  using Work = std::function<absl::Status(const CallInfo&)>;
  struct Call;

  // Counts it, and asks the guard. `vm_id`: see CallGuard::Admit.
  std::shared_ptr<Call> Begin(grpc::CallbackServerContext* context, const char* method,
                              const std::string& vm_id);

  // Runs `work` at once, or in the pool, and finishes the call with its result.
  grpc::ServerUnaryReactor* RunHere(const std::shared_ptr<Call>& call, const Work& work);
  grpc::ServerUnaryReactor* RunInPool(const std::shared_ptr<Call>& call, Work work);
  // A step of a handoff. One at a time runs on the thread that gRPC calls from, of which there are
  // two at least, since to wake another takes a good part of the step's time; the others go to the
  // pool.
  grpc::ServerUnaryReactor* RunStep(const std::shared_ptr<Call>& call, Work work);
  // Why the call is not to be worked on, if so.
  absl::Status Refusal(const Call& call) const;
  void Finish(Call& call, const absl::Status& status);

  const Parts parts_;
  HandoffWatchers watchers_;
  std::atomic<bool> stopping_{false};
  std::mutex here_;  // held while a step runs on gRPC's thread
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_TSC_AGENT_SERVICE_H_
