#include "server/tls/certificate_identity.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>

namespace tsc_handoff::tls {

std::vector<std::string> CertificateIdentities(const grpc::AuthContext& context) {
  std::vector<std::string> names;
  const auto types = context.FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  const bool over_tls = std::any_of(types.begin(), types.end(), [](const grpc::string_ref& type) {
    return type == GRPC_SSL_TRANSPORT_SECURITY_TYPE || type == GRPC_TLS_TRANSPORT_SECURITY_TYPE;
  });
  // Both ends of a connection have such a context; authenticated is who showed a certificate.
  if (!over_tls || !context.IsPeerAuthenticated()) return names;
  for (const char* kind : {GRPC_PEER_URI_PROPERTY_NAME, GRPC_PEER_DNS_PROPERTY_NAME}) {
    for (const grpc::string_ref& name : context.FindPropertyValues(kind)) {
      // Two programs would read such a name differently.
      if (std::find(name.begin(), name.end(), '\0') == name.end())
        names.emplace_back(name.data(), name.size());
    }
  }
  return names;
}

}  // namespace tsc_handoff::tls
