// TakeOverGrpcLog: what gRPC and protobuf themselves have to say becomes lines of the agent's log,
// in its format and limited as all that others can cause. Without it a stranger who fails at the
// TLS handshake could fill the log, with lines that are no JSON.
//
// Threading: once, at the start.
#ifndef TSC_HANDOFF_SERVER_AGENT_GRPC_LOG_H_
#define TSC_HANDOFF_SERVER_AGENT_GRPC_LOG_H_

namespace tsc_handoff::agent {

// Leaves gRPC's log alone where the environment has GRPC_VERBOSITY: somebody debugs it.
void TakeOverGrpcLog();

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_GRPC_LOG_H_
