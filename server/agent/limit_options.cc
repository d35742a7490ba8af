#include "server/agent/limit_options.h"

#include <CLI/CLI.hpp>

#include "absl/time/time.h"
#include "server/agent/duration_option.h"

namespace tsc_handoff::agent {
namespace {

constexpr char kGroup[] = "Limits, so that nobody keeps the others from being served";

template <typename Number>
void AddNumber(CLI::App& app, const std::string& flag, Number& out, const std::string& help,
               Number lowest, Number highest) {
  app.add_option(flag, out, help)->check(CLI::Range(lowest, highest))->group(kGroup);
}

void AddSpan(CLI::App& app, const std::string& flag, int64_t& out_ns, const std::string& help,
             absl::Duration lowest, absl::Duration highest) {
  AddDuration(app, flag, out_ns, help, DurationRange{lowest, highest})->group(kGroup);
}

void AddConnections(CLI::App& app, ServingLimits& out) {
  AddNumber<size_t>(app, "--max-connections", out.max_connections,
                    "Accept at most this many connections of callers by TCP, and as many by Unix "
                    "sockets; an eighth of LimitNOFILE, if that is less [4096]",
                    1, 1'000'000);
  AddNumber<size_t>(app, "--max-connections-per-peer", out.max_connections_per_peer,
                    "Accept at most this many connections of a user by Unix sockets, and of an "
                    "address (of IPv6, a /64 network) by TCP [64]",
                    1, 1'000'000);
  AddNumber<uint32_t>(app, "--max-streams", out.max_streams_per_connection,
                      "Serve at most this many calls at once on a connection; further ones wait "
                      "at their caller [64]",
                      1, 10'000);
  AddSpan(app, "--handshake-timeout", out.handshake_timeout_ns,
          "Close a connection that has not come through TLS and begun to speak HTTP/2 within this "
          "time [10s]",
          absl::Milliseconds(100), absl::Minutes(5));
  AddSpan(app, "--max-idle", out.max_idle_ns,
          "Close a connection on which no call was made for this long [30m]", absl::Seconds(1),
          absl::Hours(24 * 7));
  AddSpan(app, "--keepalive", out.keepalive_ns,
          "Ask a caller of whom nothing was heard for this long during a call whether he is there, "
          "and close the connection when he does not answer as soon, or within 20 s [1m]",
          absl::Seconds(1), absl::Hours(24));
}

void AddCalls(CLI::App& app, ServingLimits& out) {
  AddNumber<uint32_t>(app, "--max-request-rate", out.max_request_rate,
                      "Refuse a caller's requests beyond this many a second [10000]", 1, 1'000'000);
  AddNumber<size_t>(app, "--max-watchers", out.max_watchers,
                    "Serve at most this many streams of WatchHandoffs [64]", 1, 10'000);
  AddNumber<size_t>(app, "--max-watchers-per-caller", out.max_watchers_per_caller,
                    "Serve at most this many streams of WatchHandoffs to one caller [16]", 1,
                    10'000);
  AddNumber<size_t>(app, "--max-message-bytes", out.max_message_bytes,
                    "Refuse requests longer than this; a state of 1024 vCPUs takes 256 KiB "
                    "[524288]",
                    16'384, 4'194'304);
  AddNumber<size_t>(app, "--max-metadata-bytes", out.max_metadata_bytes,
                    "Refuse calls whose metadata (HTTP/2 headers) is longer than this [16384]",
                    1'024, 1'048'576);
  AddNumber<size_t>(
      app, "--max-grpc-memory-mib", out.max_grpc_memory_mib,
      "Let all connections and calls together take this much memory in gRPC, in MiB; "
      "beyond it, by its own rough count, idle connections are closed and calls cancelled [256]",
      16, 65'536);
}

}  // namespace

void AddLimitOptions(CLI::App& app, ServingLimits& out) {
  AddNumber<size_t>(app, "--max-vms", out.max_vms, "Serve at most this many VMs [4096]", 1,
                    100'000);
  AddNumber<size_t>(app, "--max-vcpus", out.max_vcpus,
                    "Serve no VM that has more vCPUs than this [1024]", 1, 1'024);
  AddNumber<size_t>(app, "--max-handoffs", out.max_handoffs,
                    "Begin no handoff while the journal holds this many, finished or not (see "
                    "--keep-handoffs) [100000]",
                    1, 10'000'000);
  AddConnections(app, out);
  AddCalls(app, out);
}

}  // namespace tsc_handoff::agent
