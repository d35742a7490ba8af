// SelfProbe: asks the agent of this process whether it answers, over the socket that its callers
// use, with the same request as any health check (grpc.health.v1.Health/Check). Any answer counts,
// also NOT_SERVING: an agent that drains, or whose clock is not trusted, is alive.
//
// Threading: any thread.
#ifndef TSC_HANDOFF_SERVER_AGENT_SELF_PROBE_H_
#define TSC_HANDOFF_SERVER_AGENT_SELF_PROBE_H_

#include <grpcpp/channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace tsc_handoff::agent {

class SelfProbe {
 public:
  // `address`: one of Options::listen, "unix:/path" or "host:port". `port`: what was chosen where
  // that says port 0; ignored for a Unix socket.
  SelfProbe(const std::string& address, int port);

  // Past the sockets: where all of them want a certificate, which may expire without the agent
  // being any less alive.
  explicit SelfProbe(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {}

  // Whether an answer came within `limit`.
  bool Answers(absl::Duration limit);

  // Whether the answer was SERVING. `service` has at most 127 bytes; empty: the whole server.
  bool Serves(const std::string& service, absl::Duration limit);

 private:
  // The answer's message, which is that of grpc.health.v1.HealthCheckResponse; none: no answer.
  std::optional<std::string> Ask(const std::string& service, absl::Duration limit);

  grpc::GenericStub stub_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_SELF_PROBE_H_
