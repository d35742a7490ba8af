// Who makes a call.
//
// Threading: a function without shared state.
#ifndef TSC_HANDOFF_SERVER_SERVICE_CALLER_H_
#define TSC_HANDOFF_SERVER_SERVICE_CALLER_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>

#include "server/auth/identity.h"

namespace tsc_handoff::service {

// Who has the connection that gRPC was given as this descriptor; null: nobody.
using FindPeer = std::function<std::shared_ptr<const auth::Identity>(int number)>;

// REQUIRES: an address with TLS demands and verifies a caller's certificate, or does not ask for
// one (never GRPC_SSL_..._BUT_DONT_VERIFY): gRPC says of one that was not verified the same as of
// one that was.
//
// Never null. To be asked once, as soon as a call comes in: when its connection has ended, the
// number of its descriptor may stand for another one, some time later.
std::shared_ptr<const auth::Identity> CallerOf(const grpc::ServerContextBase& context,
                                               const FindPeer& find_peer);

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_CALLER_H_
