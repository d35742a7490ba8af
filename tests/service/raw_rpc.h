// Calls of any gRPC method with bytes for messages: for services whose generated code Debian does
// not ship (health, reflection), and for messages that a proper client would not send.
//
// Threading: pure functions; a connection of its own for each call.
#ifndef TSC_HANDOFF_TESTS_SERVICE_RAW_RPC_H_
#define TSC_HANDOFF_TESTS_SERVICE_RAW_RPC_H_

#include <string>

#include "absl/status/statusor.h"

namespace tsc_handoff {

// `method` as in "/grpc.health.v1.Health/Check". The status has gRPC's code and message, no
// details.
absl::StatusOr<std::string> RawUnary(const std::string& address, const std::string& method,
                                     const std::string& request);

// Sends one message on a stream and returns the first answer.
absl::StatusOr<std::string> RawFirstOfStream(const std::string& address, const std::string& method,
                                             const std::string& request);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_RAW_RPC_H_
