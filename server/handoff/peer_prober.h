// PeerProber: how the core has another host's clocks probed. What carries the probes (gRPC, or a
// simulated network) is not known here.
//
// Threading: implementations are thread-safe.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_PEER_PROBER_H_
#define TSC_HANDOFF_SERVER_HANDOFF_PEER_PROBER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/clock/clock_quality.h"
#include "server/time/clock_probe.h"

namespace tsc_handoff::handoff {

// Raw answers of one probe.
struct PeerAnswers {
  std::vector<time::ProbeRound> rounds;  // at least one
  std::string boot_id;                   // of the peer; the same in each answer
  uint32_t peer_khz = 0;
  clock::ClockQuality claim;  // what the peer claims of its clock, as of the last round
  int64_t claim_realtime_ns = 0;
};

class PeerProber {
 public:
  virtual ~PeerProber() = default;
  // Probes the agent at `address` ("HOST:PORT") within `budget_ns`. Errors: kPeerUnreachable
  // (metadata "peer"), kRequestInvalid for an address that is none.
  virtual absl::StatusOr<PeerAnswers> Probe(const std::string& address, int64_t budget_ns) = 0;
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_PEER_PROBER_H_
