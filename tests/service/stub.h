// Stub: an agent called through gRPC's own stub, so that a test sees each call as it is: no
// retries, a deadline only where it sets one.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_TESTS_SERVICE_STUB_H_
#define TSC_HANDOFF_TESTS_SERVICE_STUB_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff {

class Stub {
 public:
  // "127.0.0.1:PORT"
  explicit Stub(const std::string& address);

  // Calls `method` (&v1::TscAgent::Stub::GetHandoff). Errors carry the agent's details, as those of
  // client::AgentClient do.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (tschandoff::v1::TscAgent::Stub::*method)(
                                    grpc::ClientContext*, const Request&, Response*),
                                const Request& request,
                                absl::Duration timeout = absl::Seconds(20)) {
    grpc::ClientContext context;
    if (timeout != absl::InfiniteDuration())
      context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    Response response;
    const grpc::Status status = ((*stub_).*method)(&context, request, &response);
    if (!status.ok()) return ToAbsl(status);
    return response;
  }

  tschandoff::v1::TscAgent::Stub& stub() { return *stub_; }

 private:
  static absl::Status ToAbsl(const grpc::Status& status);

  std::unique_ptr<tschandoff::v1::TscAgent::Stub> stub_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_STUB_H_
