// MakeServerCredentials: gRPC's credentials of a server that demands a certificate of every client
// and asks the store for its own at every handshake. Connections that stand are not touched when
// the store gets new ones.
//
// gRPC's experimental TlsServerCredentials take certificates from files, which they do not check,
// or never again. The C core's fetcher of SslServerCredentials asks at each handshake, which is
// what is wanted; gRPC's C++ has no name for it, so this is a grpc::ServerCredentials of our own.
//
// Threading: as any grpc::ServerCredentials.
#ifndef TSC_HANDOFF_SERVER_TLS_SERVER_CREDENTIALS_H_
#define TSC_HANDOFF_SERVER_TLS_SERVER_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/tls/certificate_store.h"

namespace tsc_handoff::tls {

// For ONE listening port: gRPC asks for each port, and only for what is new. `store` is loaded. The
// credentials AND `store` outlive the server, which keeps only a pointer to them.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const CertificateStore& store);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_SERVER_CREDENTIALS_H_
