// Credentials of a gRPC channel to an agent, the same for tscctl, orchestrators and agents that
// probe each other: this end shows its certificate, and the agent's must be vouched for by the
// authorities AND bear the name under which it is called.
//
// The name is the host of "HOST:PORT", which must be a DNS or IP subject alternative name of the
// agent's certificate; so an agent cannot stand in for another one, although one authority vouches
// for both. Where certificates name no hosts, as a SPIFFE workload's do not, all agents'
// certificates bear one agreed DNS name, such as tsc-agent.example.org, and the caller expects that
// one
// (`server_name`). Then any holder of an agent's certificate may stand in for any other agent: that
// is as much as such certificates can tell.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_TLS_CHANNEL_CREDENTIALS_H_
#define TSC_HANDOFF_SERVER_TLS_CHANNEL_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

#include "server/tls/tls_files.h"

namespace tsc_handoff::tls {

// `pem` was checked, or the channel fails to connect.
std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const PemTexts& pem);

// Expects this name in the agent's certificate instead of the host that is called; empty: the host.
void ExpectServerName(const std::string& server_name, grpc::ChannelArguments& arguments);

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_CHANNEL_CREDENTIALS_H_
