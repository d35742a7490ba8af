// Transport: decides with which credentials an address is served and other agents are called, and
// has the certificates come into use that appear in the files.
//
// Unix sockets need none: their mode decides. TCP has mutual TLS, or stays on this host.
//
// Threading: Start first; then any thread.
#ifndef TSC_HANDOFF_SERVER_AGENT_TRANSPORT_H_
#define TSC_HANDOFF_SERVER_AGENT_TRANSPORT_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/agent/transport_options.h"
#include "server/metrics/metrics.h"
#include "server/peer/peer_security.h"
#include "server/tls/certificate_store.h"
#include "server/tls/file_watch.h"

namespace tsc_handoff::agent {

class Transport {
 public:
  // `metrics` outlives this.
  Transport(TransportOptions options, metrics::Metrics& metrics);

  // Reads the certificates, and watches their files from now on. FAILED_PRECONDITION: what is wrong
  // with them.
  absl::Status Start();

  // For one port of a server that ends before this. PERMISSION_DENIED: the address may not be
  // served so, and what to do.
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsFor(
      const std::string& address);

  // For a call of the agent at HOST:PORT. Errors: kPeerUnreachable, without TLS beyond this host.
  absl::StatusOr<peer::PeerSecurity> PeerSecurityFor(const std::string& address);

  // Looks at the files at once. Whether other certificates are in use now.
  bool Reload();

  // Of the certificate in use; none without TLS.
  std::optional<metrics::CertificateValues> certificate() const;

 private:
  void Reloaded(const tls::CertificateStore::Reloaded& what);

  const TransportOptions options_;
  metrics::Metrics& metrics_;
  const std::shared_ptr<grpc::ChannelCredentials> insecure_credentials_ =
      grpc::InsecureChannelCredentials();
  std::optional<tls::CertificateStore> store_;
  std::optional<tls::FileWatch> watch_;
  std::vector<std::shared_ptr<grpc::ServerCredentials>> server_credentials_;  // kept for gRPC
  std::mutex mutex_;
  // Made of these certificates; guarded by mutex_.
  std::shared_ptr<const tls::Certificates> channel_certificates_;
  std::shared_ptr<grpc::ChannelCredentials> channel_credentials_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_TRANSPORT_H_
