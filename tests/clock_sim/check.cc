#include "tests/clock_sim/check.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/time/handoff_math.h"
#include "server/time/ticks.h"

namespace tsc_handoff::clock_sim {
namespace {

using int128 = __int128;
using Sentences = std::vector<std::string>;
using time::ElapsedBasis;

constexpr std::array kDocumentedReasons = {
    Reason::kClockUntrusted,  Reason::kClockBoundExceeded, Reason::kClocksDisagree,
    Reason::kTimeWouldGoBack, Reason::kElapsedOutOfRange,  Reason::kPeerUnreachable,
    Reason::kRequestInvalid,  Reason::kHostTscUnstable,
};

std::string BoundText(const time::ErrorBound& bound) {
  return absl::StrCat(
      "{source_read=", bound.source_read_ns, " destination_read=", bound.destination_read_ns,
      " source_clock=", bound.source_clock_ns, " destination_clock=", bound.destination_clock_ns,
      " rate=", bound.rate_ns, " rounding=", bound.rounding_ns, " probe=", bound.probe_ns, "}");
}

int64_t ErrorNs(const Outcome& outcome) {
  return static_cast<int64_t>(outcome.error_ticks * 1'000'000 / outcome.state.guest_khz);
}

// Nothing is rounded.
bool ErrorWithin(const Outcome& outcome, int64_t ns) {
  const int128 error = outcome.error_ticks < 0 ? -outcome.error_ticks : outcome.error_ticks;
  return error * 1'000'000 <= int128{ns} * outcome.state.guest_khz;
}

// No vCPU's TSC goes back, and all of them keep their distances to the tick.
void CheckGuest(const Outcome& outcome, Sentences& wrong) {
  std::vector<uint64_t> captured;
  std::vector<uint64_t> planned;
  for (size_t i = 0; i < outcome.state.vcpus.size(); ++i) {
    captured.push_back(outcome.state.vcpus[i].guest_tsc_ticks);
    planned.push_back(outcome.plan->vcpus[i].guest_tsc_ticks);
    if (outcome.gained_ticks[i] < 0)
      wrong.push_back(absl::StrCat("vCPU ", i, " goes back by ", -outcome.gained_ticks[i],
                                   " ticks at the apply"));
    if (static_cast<int64_t>(planned[i] - captured[i]) < 0)
      wrong.push_back(absl::StrCat("vCPU ", i, " is planned below its captured value"));
  }
  if (const uint64_t ticks = time::PhaseErrorTicks(captured, planned); ticks != 0)
    wrong.push_back(absl::StrCat("the phase is off by ", ticks, " ticks"));
}

// How far apart two elapsed times can be that the probe allows both. A lie within that is one that
// no measurement shows.
int64_t ProbeWidthNs(const Scenario& scenario, const Outcome& outcome) {
  const time::ClockProbe& probe = *outcome.probe;
  const time::ErrorBound& bound = *outcome.plan->elapsed.bound;
  const auto since_ticks =
      static_cast<int64_t>(outcome.reckoning.reference.host_tsc_ticks - probe.local_tsc_ticks);
  const int64_t since_ns = time::TicksToNs(since_ticks, probe.local_khz);
  const int64_t slack_ns = since_ns * 2 * scenario.limits.rate_uncertainty_ppm / 1'000'000 + 3;
  return probe.upper_ns - probe.lower_ns + 2 * slack_ns + bound.rate_ns + bound.rounding_ns;
}

// What the error is promised to be within; nothing where it rests on a lie alone.
std::optional<int64_t> PromisedNs(const Scenario& scenario, const Outcome& outcome) {
  const int64_t bound_ns = outcome.plan->elapsed.bound->total_ns();
  if (scenario.honest()) return bound_ns;
  if (!outcome.probe.has_value()) return std::nullopt;
  return std::max(bound_ns, ProbeWidthNs(scenario, outcome));
}

void CheckBound(const Scenario& scenario, const Outcome& outcome, Sentences& wrong) {
  const time::Elapsed& elapsed = outcome.plan->elapsed;
  if (!elapsed.bound.has_value()) {
    if (!elapsed.accepted_untrusted_clock) wrong.push_back("a plan without a bound");
    return;
  }
  if (elapsed.bound->total_ns() > scenario.policy.max_error_ns)
    wrong.push_back("a bound above the limit");
  if (elapsed.basis == ElapsedBasis::kSameHostTsc && outcome.error_ticks != 0)
    wrong.push_back("not exact on one host");
  const std::optional<int64_t> promised_ns = PromisedNs(scenario, outcome);
  if (!promised_ns.has_value() || ErrorWithin(outcome, *promised_ns)) return;
  wrong.push_back(absl::StrCat("the bound is broken: ", ErrorNs(outcome), " ns against ",
                               elapsed.bound->total_ns(), " ns ", BoundText(*elapsed.bound),
                               " basis ", static_cast<int>(elapsed.basis), " elapsed ",
                               elapsed.elapsed_ns, " true ", outcome.true_elapsed_ns));
}

void CheckPlan(const Scenario& scenario, const Outcome& outcome, Sentences& wrong) {
  CheckGuest(outcome, wrong);
  CheckBound(scenario, outcome, wrong);
  const time::Elapsed& elapsed = outcome.plan->elapsed;
  if (scenario.same_host != (elapsed.basis == ElapsedBasis::kSameHostTsc))
    wrong.push_back("not reckoned by the host's own TSC");
  if (elapsed.basis == ElapsedBasis::kClocksAndProbe && !outcome.probe.has_value())
    wrong.push_back("reckoned by a probe that never was");
  if (elapsed.elapsed_ns > scenario.policy.max_elapsed_ns)
    wrong.push_back("more time elapsed than is allowed");
}

// What was chosen to be waited; that a sleep ends late is nobody's choice.
void CheckWaits(const Scenario& scenario, const Outcome& outcome, Sentences& wrong) {
  int64_t waited_ns = 0;
  for (const SleepLog::Sleep& sleep : outcome.sleeps) {
    waited_ns += sleep.asked_ns;
    const int64_t passed_ns = sleep.decided_at_ns - outcome.reckoning_began_ns;
    if (sleep.asked_ns <= 0) wrong.push_back("an empty wait");
    if (passed_ns + sleep.asked_ns > scenario.time_left_ns)
      wrong.push_back(absl::StrCat("a wait of ", sleep.asked_ns, " ns after ", passed_ns,
                                   " ns exceeds the deadline"));
  }
  if (waited_ns > scenario.limits.max_commit_wait_ns)
    wrong.push_back(absl::StrCat("waits of ", waited_ns, " ns in all"));
  if (outcome.plan.has_value() && outcome.reckoning.commit_wait_ns < waited_ns)
    wrong.push_back("waited longer than is told");
}

void CheckRefusal(const Scenario& scenario, const Outcome& outcome, Sentences& wrong) {
  const std::optional<Reason> reason = ReasonOf(outcome.status);
  if (!reason.has_value() || std::find(kDocumentedReasons.begin(), kDocumentedReasons.end(),
                                       *reason) == kDocumentedReasons.end()) {
    wrong.push_back(absl::StrCat("refused without a documented reason: ",
                                 std::string(outcome.status.message())));
    return;
  }
  if (!scenario.quiet) return;
  const bool good = *reason == Reason::kClockBoundExceeded || *reason == Reason::kTimeWouldGoBack ||
                    *reason == Reason::kElapsedOutOfRange ||
                    (*reason == Reason::kRequestInvalid && scenario.limits.require_probe) ||
                    (*reason == Reason::kPeerUnreachable && scenario.names_source);
  if (!good)
    wrong.push_back(absl::StrCat("a false alarm in a quiet world: ", ReasonName(*reason).data(),
                                 ": ", std::string(outcome.status.message())));
}

}  // namespace

bool BoundHolds(const Outcome& outcome) {
  return ErrorWithin(outcome, outcome.plan->elapsed.bound->total_ns());
}

std::vector<std::string> Violations(const Scenario& scenario, const Outcome& outcome) {
  Sentences wrong;
  if (!outcome.broken_claim.empty())
    wrong.push_back(absl::StrCat("the simulation is dishonest: ", outcome.broken_claim));
  if (outcome.probe_wrong_ns > 0)
    wrong.push_back(absl::StrCat("the probe is wrong by ", outcome.probe_wrong_ns, " ns"));
  CheckWaits(scenario, outcome, wrong);
  if (outcome.plan.has_value()) {
    CheckPlan(scenario, outcome, wrong);
  } else {
    CheckRefusal(scenario, outcome, wrong);
  }
  return wrong;
}

}  // namespace tsc_handoff::clock_sim
