#include "client/tscctl/connect.h"

#include <utility>

namespace tsc_handoff::tscctl {

absl::StatusOr<std::unique_ptr<client::AgentClient>> ConnectTo(const std::string& agent,
                                                               const Options& options) {
  client::AgentClientOptions client_options;
  client_options.timeout = options.timeout;
  return client::AgentClient::Connect(agent, std::move(client_options));
}

}  // namespace tsc_handoff::tscctl
