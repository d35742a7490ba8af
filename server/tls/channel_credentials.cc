#include "server/tls/channel_credentials.h"

namespace tsc_handoff::tls {

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const PemTexts& pem) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = pem.ca;
  options.pem_private_key = pem.key;
  options.pem_cert_chain = pem.cert;
  return grpc::SslCredentials(options);
}

void ExpectServerName(const std::string& server_name, grpc::ChannelArguments& arguments) {
  if (!server_name.empty()) arguments.SetSslTargetNameOverride(server_name);
}

}  // namespace tsc_handoff::tls
