// How much of the agent callers and VMMs may take, so that the others are served.
//
// Threading: plain values.
#ifndef TSC_HANDOFF_SERVER_AGENT_SERVING_LIMITS_H_
#define TSC_HANDOFF_SERVER_AGENT_SERVING_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace tsc_handoff::agent {

struct ServingLimits {
  size_t max_vms = 4096;
  size_t max_vcpus = 1024;        // of a VM
  size_t max_handoffs = 100'000;  // that the journal holds
  size_t max_connections = 4096;  // by TCP, and as many by Unix sockets
  // A call that lasts takes some 17 KB in gRPC, so a peer at both limits takes 70 MB.
  size_t max_connections_per_peer = 64;
  uint32_t max_streams_per_connection = 64;  // calls at once
  size_t max_watchers = 64;                  // streams of WatchHandoffs
  size_t max_watchers_per_caller = 16;
  size_t max_queued_changes = 4096;    // that a stream may be behind
  uint32_t max_request_rate = 10'000;  // requests per second of one caller
  // A state is at most 256 KiB (state::kMaxPayloadBytes); a request is little more.
  size_t max_message_bytes = 512 * 1024;
  size_t max_metadata_bytes = 16 * 1024;  // of a call
  size_t max_grpc_memory_mib = 256;       // of all connections' buffers and calls
  // Until a connection has come through TLS and begun to speak HTTP/2.
  int64_t handshake_timeout_ns = 10'000'000'000;
  // A connection without a call is closed after this.
  int64_t max_idle_ns = 1'800'000'000'000;
  // A connection with a call that says nothing for this long is asked whether its peer is there.
  int64_t keepalive_ns = 60'000'000'000;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_SERVING_LIMITS_H_
