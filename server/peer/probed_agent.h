// ProbedAgent: a gRPC server that answers ProbeClock as a test says, and nothing else.
//
// Threading: the script runs in gRPC's threads, one call of it at a time.
#ifndef TSC_HANDOFF_SERVER_PEER_PROBED_AGENT_H_
#define TSC_HANDOFF_SERVER_PEER_PROBED_AGENT_H_

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "server/peer/peer_security.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::peer {

class ProbedAgent final : public tschandoff::v1::TscAgent::Service {
 public:
  // Fills in the answer to the call number `call`, from 0. The answer is a good one already.
  using Script =
      std::function<grpc::Status(int call, tschandoff::v1::ProbeClockResponse& response)>;

  explicit ProbedAgent(Script script = nullptr);
  ~ProbedAgent() override;

  // Listens at "127.0.0.1:0" or another of gRPC's addresses; false when it cannot. `port` is set to
  // the one that was chosen.
  bool Listen(const std::string& address, int* port);
  // From now on no call is answered until the end.
  void FallSilent();
  int calls() const;

  grpc::Status ProbeClock(grpc::ServerContext* context,
                          const tschandoff::v1::ProbeClockRequest* request,
                          tschandoff::v1::ProbeClockResponse* response) override;

 private:
  const Script script_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int calls_ = 0;        // guarded by mutex_
  bool silent_ = false;  // guarded by mutex_
  std::unique_ptr<grpc::Server> server_;
};

// What a prober is given that calls agents of this host without TLS.
PeerSecurityFor WithoutTls();

// A good answer: its readings tell which call it was of, its claim is trusted.
tschandoff::v1::ProbeClockResponse GoodAnswer(int call);

}  // namespace tsc_handoff::peer

#endif  // TSC_HANDOFF_SERVER_PEER_PROBED_AGENT_H_
