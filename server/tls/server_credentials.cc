#include "server/tls/server_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>

namespace tsc_handoff::tls {
namespace {

class ReloadedServerCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadedServerCredentials(const CertificateStore& store)
      : store_(store),
        credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, Fetch, this))) {}

  ~ReloadedServerCredentials() override { grpc_server_credentials_release(credentials_); }

  // For servers that read credentials from metadata; the agent's callers have certificates.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // gRPC calls it when the port is added and at each handshake, under its lock of the port.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& credentials = *static_cast<ReloadedServerCredentials*>(self);
    std::shared_ptr<const Certificates> now = credentials.store_.current();
    if (now == credentials.given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {now->pem.key.c_str(), now->pem.cert.c_str()};
    *config = grpc_ssl_server_certificate_config_create(now->pem.ca.c_str(), &pair, 1);
    credentials.given_ = std::move(now);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const CertificateStore& store_;
  std::shared_ptr<const Certificates> given_;  // touched by Fetch alone
  grpc_server_credentials* const credentials_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const CertificateStore& store) {
  return std::make_shared<ReloadedServerCredentials>(store);
}

}  // namespace tsc_handoff::tls
