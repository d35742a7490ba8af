#include "server/handoff/timekeeper.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/clock/reference.h"

namespace tsc_handoff::handoff {
namespace {

using time::ClockProbe;
using time::TimeReference;

constexpr int64_t kProbeBudgetNs = 1'000'000'000;
// Longer than any wait that is permitted.
constexpr int64_t kLongestNs = std::numeric_limits<int64_t>::max() / 2;
// The clocks go on while the wait ends.
constexpr int64_t kWaitMarginNs = 1'000;

absl::Status NoReading() {
  return Error(Reason::kHostTscUnstable,
               "every reading of the host's TSC went backwards, or its wall clock is unset");
}

absl::Status NotTheSource(const std::string& peer, const char* why) {
  return Error(
      Reason::kPeerUnreachable,
      absl::StrCat("the agent at ", peer, " is not the one that captured the state: ", why),
      {{"peer", peer}});
}

}  // namespace

ClockVerdict Judge(const Comparison& comparison) {
  const clock::ClockQuality& local = comparison.local.quality;
  const clock::ClockQuality& peer = comparison.peer.quality;
  if (!local.trusted || !peer.trusted) return ClockVerdict::kNoClaim;
  const __int128 offset = comparison.probe.wall_offset_ns;
  const __int128 allowed = static_cast<__int128>(comparison.probe.wall_offset_error_ns) +
                           local.error_bound_ns + peer.error_bound_ns;
  return (offset < 0 ? -offset : offset) <= allowed ? ClockVerdict::kAgree
                                                    : ClockVerdict::kDisagree;
}

ClockNow Timekeeper::Now() {
  const clock::ClockSnapshot snapshot = clock_.Snapshot();
  const clock::ClockInstant now = clock::ReadInstant(host_clock_);
  return {clock::QualityAt(snapshot, now), now.realtime_ns};
}

absl::StatusOr<TimeReference> Timekeeper::TakeReference() {
  auto reference = clock::TakeReference(host_clock_, clock_.Snapshot(), host_.tsc.host_khz);
  if (!reference.has_value()) return NoReading();
  return *reference;
}

absl::StatusOr<time::ClockStamp> Timekeeper::TakeStamp() {
  auto stamp = clock::TakeStamp(host_clock_, host_.tsc.host_khz);
  if (!stamp.has_value()) return NoReading();
  return *stamp;
}

absl::StatusOr<PeerAnswers> Timekeeper::Ask(const std::string& peer, int64_t budget_ns) {
  if (budget_ns <= 0) {
    return Error(Reason::kPeerUnreachable, "the call's deadline leaves no time for a probe",
                 {{"peer", peer}});
  }
  return prober_.Probe(peer, budget_ns);
}

absl::StatusOr<ClockProbe> Timekeeper::Combine(const std::string& peer,
                                               const PeerAnswers& answers) {
  auto probe = time::CombineRounds(answers.rounds, host_.tsc.host_khz, answers.peer_khz,
                                   limits_.Get().rate_uncertainty_ppm);
  if (probe.ok() && on_probe_) on_probe_(peer, *probe);
  return probe;
}

absl::StatusOr<std::optional<ClockProbe>> Timekeeper::ProbeSource(const time::TscState& state,
                                                                  const std::string& source_agent,
                                                                  int64_t time_left_ns) {
  if (source_agent.empty()) {
    if (!limits_.Get().require_probe) return std::optional<ClockProbe>();
    return Error(Reason::kRequestInvalid,
                 "source_agent is required: this agent takes no other host's word for its clock",
                 {{"field", "source_agent"}});
  }
  auto answers = Ask(source_agent, std::min(kProbeBudgetNs, time_left_ns));
  if (!answers.ok()) return answers.status();
  if (state.boot_id.empty()) return NotTheSource(source_agent, "the state does not name its boot");
  if (answers->boot_id != state.boot_id)
    return NotTheSource(source_agent, "its host is another one, or was booted since");
  if (answers->peer_khz != state.reference->host_tsc_khz)
    return NotTheSource(source_agent, "its host's TSC has another frequency");
  auto probe = Combine(source_agent, *answers);
  if (!probe.ok()) return probe.status();
  return std::optional<ClockProbe>(*probe);
}

absl::StatusOr<Reckoning> Timekeeper::Reckon(const time::TscState& state,
                                             const time::TscScaling& scaling,
                                             const time::ApplyPolicy& policy,
                                             const std::string& source_agent,
                                             int64_t time_left_ns) {
  const int64_t start_ns = host_clock_.ReadMonotonicNs();
  time::ElapsedEvidence evidence;
  evidence.same_host = !state.boot_id.empty() && state.boot_id == host_.boot_id;
  if (policy.mode == time::ApplyMode::kElapsed && state.reference.has_value() &&
      !evidence.same_host) {
    auto probe = ProbeSource(state, source_agent, time_left_ns);
    if (!probe.ok()) return probe.status();
    evidence.probe = *probe;
  }
  Reckoning reckoning;
  reckoning.probe = evidence.probe;
  while (true) {
    auto reference = TakeReference();
    if (!reference.ok()) return reference.status();
    auto elapsed = time::ReckonElapsed(state, *reference, scaling, policy, evidence);
    if (!elapsed.ok()) return elapsed.status();
    reckoning.reference = *reference;
    reckoning.elapsed = *elapsed;
    const absl::Status passed = time::CheckTimeHasPassed(*elapsed);
    if (passed.ok()) return reckoning;
    const int64_t wait_ns =
        kWaitMarginNs - std::max(std::min(elapsed->earliest_ns, elapsed->elapsed_ns), -kLongestNs);
    const int64_t left_ns = std::min(limits_.Get().max_commit_wait_ns - reckoning.commit_wait_ns,
                                     time_left_ns - (host_clock_.ReadMonotonicNs() - start_ns));
    if (wait_ns > left_ns) return passed;
    const int64_t before_ns = host_clock_.ReadMonotonicNs();
    host_clock_.SleepNs(wait_ns);
    reckoning.commit_wait_ns += host_clock_.ReadMonotonicNs() - before_ns;
  }
}

absl::StatusOr<Comparison> Timekeeper::Compare(const std::string& peer) {
  auto answers = Ask(peer, kProbeBudgetNs);
  if (!answers.ok()) return answers.status();
  auto probe = Combine(peer, *answers);
  if (!probe.ok()) return probe.status();
  return Comparison{*probe, Now(), {answers->claim, answers->claim_realtime_ns}};
}

}  // namespace tsc_handoff::handoff
