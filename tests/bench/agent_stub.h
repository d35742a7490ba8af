// AgentStub: the agent under test, called over its Unix socket, one call at a time, with no retries
// and nothing else around the call.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_BENCH_AGENT_STUB_H_
#define TSC_HANDOFF_TESTS_BENCH_AGENT_STUB_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "tests/bench/samples.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::bench {

class AgentStub {
 public:
  // `address` is "unix:/PATH", or "HOST:PORT" with credentials of TLS.
  AgentStub(const std::string& address, std::string vm_id,
            const std::shared_ptr<grpc::ChannelCredentials>& credentials =
                grpc::InsecureChannelCredentials());

  // Waits until the connection stands, and asks where the agent can be probed.
  absl::Status Connect();

  // grpc.health.v1.Health/Check: an RPC with an empty request, a two-byte answer, and none of this
  // project's code on the agent's side.
  absl::Status Empty();
  absl::Status GetHostInfo();
  absl::Status GetVm();
  // Lets the agent probe itself, at the address that it tells others.
  absl::Status CompareClocks();
  absl::Status GetTscState();
  // Puts what the last GetTscState gave into the request for SetTscState; not to be measured.
  void PrepareSet();
  // Mode ELAPSED. REQUIRES: PrepareSet.
  absl::Status SetTscState();

  // Of the last GetTscState.
  size_t state_bytes() const { return got_.state().ByteSizeLong(); }
  // Of all CompareClocks.
  uint32_t probe_rounds() const { return probe_rounds_; }
  const Samples& probe_duration_ns() const { return probe_duration_ns_; }
  const Samples& probe_offset_error_ns() const { return probe_offset_error_ns_; }

 private:
  const std::string vm_id_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<tschandoff::v1::TscAgent::Stub> stub_;
  tschandoff::v1::GetTscStateResponse got_;
  tschandoff::v1::SetTscStateRequest set_;
  std::string peer_address_;
  uint32_t probe_rounds_ = 0;
  Samples probe_duration_ns_;
  Samples probe_offset_error_ns_;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_AGENT_STUB_H_
