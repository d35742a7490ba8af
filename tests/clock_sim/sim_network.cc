#include "tests/clock_sim/sim_network.h"

#include "server/base/error.h"
#include "server/clock/reference.h"
#include "tests/clock_sim/sim_host.h"
#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {

void SimNetwork::Deliver(int64_t least_ps) {
  world_.Advance(least_ps + random_.Between(0, options_.jitter_ps));
}

absl::Status SimNetwork::OneRound(handoff::PeerAnswers& answers) {
  const auto sent = clock::TakeStamp(local_->clocks(), local_->facts().tsc.host_khz);
  Deliver(options_.request_ps);
  if (random_.PerMille(options_.lost_per_mille))
    return Error(Reason::kPeerUnreachable, "lost", {{"peer", "source"}});
  auto peer_received = peer_->timekeeper().TakeStamp();
  if (!peer_received.ok()) return peer_received.status();
  const handoff::ClockNow claim = peer_->timekeeper().Now();
  world_.Advance(random_.Between(0, options_.work_ps));
  auto peer_sent = peer_->timekeeper().TakeStamp();
  if (!peer_sent.ok()) return peer_sent.status();
  Deliver(options_.answer_ps);
  const auto received = clock::TakeStamp(local_->clocks(), local_->facts().tsc.host_khz);
  if (!sent.has_value() || !received.has_value())
    return Error(Reason::kHostTscUnstable, "every reading of the host's TSC went backwards");
  answers.rounds.push_back({*sent, *peer_received, *peer_sent, *received});
  answers.claim = claim.quality;
  answers.claim_realtime_ns = claim.realtime_ns;
  return absl::OkStatus();
}

absl::StatusOr<handoff::PeerAnswers> SimNetwork::Probe(const std::string& address,
                                                       int64_t budget_ns) {
  handoff::PeerAnswers answers;
  answers.boot_id = options_.other_boot ? "another boot id." : peer_->facts().boot_id;
  answers.peer_khz = peer_->facts().tsc.host_khz + (options_.other_khz ? 1 : 0);
  const int64_t until_ns = local_->clocks().monotonic_ns() + budget_ns;
  for (int i = 0; i < options_.rounds; ++i) {
    const absl::Status status = OneRound(answers);
    if (!status.ok()) return status;
    if (local_->clocks().monotonic_ns() > until_ns)
      return Error(Reason::kPeerUnreachable, "too late", {{"peer", address}});
  }
  return answers;
}

}  // namespace tsc_handoff::clock_sim
