// Turns a Status of the agent's core into what goes over the wire: a gRPC status whose details are
// a google.rpc.Status with one ErrorInfo.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_SERVICE_RPC_STATUS_H_
#define TSC_HANDOFF_SERVER_SERVICE_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tsc_handoff::service {

// A status without a Reason is a bug and becomes INTERNAL_ERROR, unless it is kCancelled. The
// message ends with the reason's next step.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The reason's name for logs and metrics; "CANCELLED" for a call that its caller gave up, empty for
// OK.
std::string ReasonLabel(const absl::Status& status);

// The code's name as gRPC's metrics write it, for example "OK", "FailedPrecondition".
const char* CodeName(grpc::StatusCode code);

// All of them.
std::vector<std::string> CodeNames();

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_RPC_STATUS_H_
