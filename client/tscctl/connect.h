// From tscctl's options to a client of an agent.
//
// Threading: a function without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CONNECT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CONNECT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/lib/agent_client.h"
#include "client/tscctl/options.h"

namespace tsc_handoff::tscctl {

// Unix sockets need no TLS, loopback has it where there are certificates. Errors:
// PERMISSION_DENIED, another host without certificates; FAILED_PRECONDITION, certificates that
// could be read a moment ago. Addresses were checked with the options; what is left is a bug.
absl::StatusOr<std::unique_ptr<client::AgentClient>> ConnectTo(const std::string& agent,
                                                               const Options& options);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CONNECT_H_
