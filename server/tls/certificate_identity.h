// The caller's names by its certificate, as gRPC has verified it.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_TLS_CERTIFICATE_IDENTITY_H_
#define TSC_HANDOFF_SERVER_TLS_CERTIFICATE_IDENTITY_H_

#include <grpcpp/security/auth_context.h>

#include <string>
#include <vector>

namespace tsc_handoff::tls {

// Subject alternative names of the client's certificate, in its order: URIs
// ("spiffe://example.org/orchestrator") first, then DNS names. Empty unless the call came over TLS
// with a certificate that an authority of --tls-ca vouches for. Names are what that authority let
// into the certificate; nothing else of the certificate, such as its common name, counts.
std::vector<std::string> CertificateIdentities(const grpc::AuthContext& context);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_CERTIFICATE_IDENTITY_H_
