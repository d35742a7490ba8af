// HandoffCaller: a whole handoff as four RPCs and nothing else, for what the agents cost without an
// orchestrator around them.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_BENCH_HANDOFF_CALLER_H_
#define TSC_HANDOFF_TESTS_BENCH_HANDOFF_CALLER_H_

#include <grpcpp/security/credentials.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/bench/samples.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::bench {

class HandoffCaller {
 public:
  // `agents` are gRPC addresses.
  explicit HandoffCaller(const std::string (&agents)[2],
                         const std::shared_ptr<grpc::ChannelCredentials>& credentials =
                             grpc::InsecureChannelCredentials());

  // Waits until the connections stand, and asks both agents who they are.
  absl::Status Connect();

  // The VMs that may run at that agent's host.
  absl::StatusOr<std::vector<std::string>> VmsAt(int agent);

  // Hands the VM from agent `from` over to the other one.
  absl::Status Handoff(const std::string& vm_id, int from);

  // How long the steps took: "capture", "apply", "commit_source", "commit_destination".
  const std::map<std::string, Samples>& steps() const { return steps_; }

 private:
  struct End {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<tschandoff::v1::TscAgent::Stub> stub;
    std::string agent_id;
  };

  template <typename Request, typename Response>
  absl::Status Call(const char* step, int at,
                    grpc::Status (tschandoff::v1::TscAgent::Stub::*method)(grpc::ClientContext*,
                                                                           const Request&,
                                                                           Response*),
                    const Request& request, Response& response);

  End ends_[2];
  std::map<std::string, Samples> steps_;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_HANDOFF_CALLER_H_
