// GrpcPeerProber: probes other agents' clocks over their ordinary gRPC address. Connections are
// kept for the next probe, and made anew when they fail or are to be secured by other credentials.
//
// Threading: thread-safe; Probe blocks for as long as its budget.
#ifndef TSC_HANDOFF_SERVER_PEER_GRPC_PEER_PROBER_H_
#define TSC_HANDOFF_SERVER_PEER_GRPC_PEER_PROBER_H_

#include <grpcpp/channel.h>

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/clock/host_clock.h"
#include "server/handoff/peer_prober.h"
#include "server/peer/peer_security.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::peer {

class GrpcPeerProber final : public handoff::PeerProber {
 public:
  // Rounds of one probe: the interval is that of the best ones, and a slow one costs only its time.
  static constexpr int kRounds = 8;

  // `host_clock` outlives this. `host_tsc_khz`: of this host.
  GrpcPeerProber(clock::HostClock& host_clock, uint32_t host_tsc_khz, PeerSecurityFor security_for)
      : host_clock_(host_clock),
        host_tsc_khz_(host_tsc_khz),
        security_for_(std::move(security_for)) {}

  absl::StatusOr<handoff::PeerAnswers> Probe(const std::string& address,
                                             int64_t budget_ns) override;

 private:
  using Stub = tschandoff::v1::TscAgent::Stub;

  struct Connection {
    std::string address;
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    std::shared_ptr<Stub> stub;
  };

  absl::StatusOr<std::shared_ptr<Stub>> StubFor(const std::string& address);
  void Forget(const std::string& address);
  absl::StatusOr<handoff::PeerAnswers> Ask(const std::string& address, int64_t budget_ns);
  absl::Status OneRound(const std::string& address, Stub& stub, int64_t budget_ns,
                        handoff::PeerAnswers& answers);

  clock::HostClock& host_clock_;
  const uint32_t host_tsc_khz_;
  const PeerSecurityFor security_for_;
  std::mutex mutex_;
  // Most recently used first; guarded by mutex_.
  std::list<Connection> connections_;
};

// OK for HOST:PORT of at most 255 characters; kRequestInvalid otherwise, naming `field`. Unix
// sockets are refused: an agent opens no path of this host because a request says so. Pure.
absl::Status CheckPeerAddress(const std::string& field, const std::string& address);

}  // namespace tsc_handoff::peer

#endif  // TSC_HANDOFF_SERVER_PEER_GRPC_PEER_PROBER_H_
