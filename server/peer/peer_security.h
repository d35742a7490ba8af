// How a channel to another agent is secured.
//
// Threading: plain values.
#ifndef TSC_HANDOFF_SERVER_PEER_PEER_SECURITY_H_
#define TSC_HANDOFF_SERVER_PEER_PEER_SECURITY_H_

#include <grpcpp/security/credentials.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tsc_handoff::peer {

struct PeerSecurity {
  // Another pointer means: connect anew.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  // The name that the agent's certificate must bear; empty: the host that is called.
  std::string server_name;
};

// For the agent at HOST:PORT; an error when it may not be called.
using PeerSecurityFor = std::function<absl::StatusOr<PeerSecurity>(const std::string& address)>;

}  // namespace tsc_handoff::peer

#endif  // TSC_HANDOFF_SERVER_PEER_PEER_SECURITY_H_
