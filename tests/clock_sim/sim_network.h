// SimNetwork: a PeerProber that reaches one host, over ways whose delays differ from one another
// and from message to message.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_NETWORK_H_
#define TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_NETWORK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/handoff/peer_prober.h"
#include "tests/clock_sim/random.h"
#include "tests/clock_sim/world.h"

namespace tsc_handoff::clock_sim {

class SimHost;

struct SimNetworkOptions {
  int rounds = 8;
  int64_t request_ps = 0;  // least delay of a request, and of an answer
  int64_t answer_ps = 0;
  int64_t jitter_ps = 0;    // at most, beside that
  int64_t work_ps = 0;      // of the peer, at most, between its two readings
  int lost_per_mille = 0;   // of messages
  bool other_boot = false;  // the peer was booted since, or is another host
  bool other_khz = false;
};

class SimNetwork final : public handoff::PeerProber {
 public:
  SimNetwork(World& world, const SimNetworkOptions& options, Random random)
      : world_(world), options_(options), random_(random) {}

  // Both outlive this.
  void Connect(SimHost& local, SimHost& peer) {
    local_ = &local;
    peer_ = &peer;
  }

  absl::StatusOr<handoff::PeerAnswers> Probe(const std::string& address,
                                             int64_t budget_ns) override;

 private:
  absl::Status OneRound(handoff::PeerAnswers& answers);
  void Deliver(int64_t least_ps);

  World& world_;
  const SimNetworkOptions options_;
  Random random_;
  SimHost* local_ = nullptr;
  SimHost* peer_ = nullptr;
};

}  // namespace tsc_handoff::clock_sim

#endif  // TSC_HANDOFF_TESTS_CLOCK_SIM_SIM_NETWORK_H_
