#include "client/tscctl/connect.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/loopback.h"

namespace tsc_handoff::tscctl {
namespace {

// With certificates all TCP has TLS, as the agents have it.
absl::Status Secure(const std::string& agent, const TlsOptions& tls,
                    client::AgentClientOptions* client_options) {
  if (tls::IsUnixSocket(agent)) return absl::OkStatus();
  if (tls.files.empty()) {
    if (tls::IsLoopback(agent)) return absl::OkStatus();
    return absl::PermissionDeniedError(
        absl::StrCat("agent ", agent,
                     " is on another host, which takes mutual TLS; give --tls-ca, --tls-cert and "
                     "--tls-key, or TSC_TLS_CA, TSC_TLS_CERT and TSC_TLS_KEY"));
  }
  const auto pem = tls::ReadTlsFiles(tls.files);
  if (!pem.ok()) return pem.status();
  client_options->credentials = tls::MakeChannelCredentials(*pem);
  client_options->tls_server_name = tls.server_name;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<client::AgentClient>> ConnectTo(const std::string& agent,
                                                               const Options& options) {
  client::AgentClientOptions client_options;
  client_options.timeout = options.timeout;
  if (absl::Status status = Secure(agent, options.tls, &client_options); !status.ok())
    return status;
  return client::AgentClient::Connect(agent, std::move(client_options));
}

}  // namespace tsc_handoff::tscctl
