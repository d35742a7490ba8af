#include "tests/clock_sim/tally.h"

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/time/tsc_scaling.h"
#include "tests/clock_sim/check.h"

namespace tsc_handoff::clock_sim {
namespace {

std::string ScalingName(const SimHostOptions& host, uint32_t guest_khz) {
  if (!time::WithinKvmTolerance(host.clocks.tsc_khz, guest_khz))
    return absl::StrCat("scaled by ", host.frac_bits, " bits");
  return host.clocks.tsc_khz == guest_khz ? "of the host's rate" : "unscaled";
}

}  // namespace

void Tally::AddPlan(const Scenario& scenario, const Outcome& outcome) {
  const time::Elapsed& elapsed = outcome.plan->elapsed;
  const char* basis = "plan: on the clocks' word";
  if (elapsed.basis == time::ElapsedBasis::kSameHostTsc) basis = "plan: on one host";
  if (elapsed.basis == time::ElapsedBasis::kClocksAndProbe) basis = "plan: narrowed by the probe";
  if (elapsed.basis == time::ElapsedBasis::kClocks && outcome.probe.has_value())
    basis = "plan: the clocks within the probe";
  if (!elapsed.bound.has_value()) basis = "plan: without a bound";
  ++counts_[basis];
  if (elapsed.accepted_untrusted_clock && elapsed.bound.has_value())
    ++counts_["plan: on the probe alone"];
  if (outcome.reckoning.commit_wait_ns > 0) ++counts_["plan: after a wait"];
  if (outcome.tsc_wrapped) ++counts_["plan: a host's TSC wrapped"];
  if (outcome.guest_wrapped) ++counts_["plan: the guest's TSC wrapped"];
  if (outcome.leap_between)
    ++counts_[elapsed.used_tai ? "plan: across a leap second, by TAI"
                               : "plan: across a leap second, without TAI"];
  ++counts_["plan: guest " + ScalingName(scenario.source, scenario.guest_khz)];
  if (!elapsed.bound.has_value()) return;
  const std::string how = outcome.probe.has_value() ? ", probed" : ", not probed";
  const std::string holds = BoundHolds(outcome) ? "holds" : "is wrong";
  ++counts_[absl::StrCat("bound ", holds, ": ", scenario.honest() ? "honest" : "lying", how)];
}

void Tally::AddRefusal(const Outcome& outcome) {
  const auto reason = ReasonOf(outcome.status);
  std::string name = reason.has_value() ? std::string(ReasonName(*reason).data()) : "no reason";
  if (reason == Reason::kClockUntrusted) name += " " + MetadataOf(outcome.status)["side"];
  if (!outcome.sleeps.empty()) ++counts_["refused: after a wait"];
  ++counts_["refused: " + name];
}

void Tally::AddWorld(const Scenario& scenario, const Outcome& outcome) {
  ++counts_[absl::StrCat("world: ", TruthName(scenario.truth))];
  if (scenario.quiet) ++counts_["world: quiet"];
  if (scenario.leap_second) ++counts_["world: leap second"];
  if (outcome.steps > 0) ++counts_["world: a clock is stepped"];
  if (outcome.distrusts > 0) ++counts_["world: a poll ends the trust"];
  if (!outcome.state.reference.has_value()) return;
  if (outcome.source_trusted_by_poll && !outcome.state.reference->clock_trusted)
    ++counts_["capture: sees what no poll has seen"];
  if (outcome.destination_trusted_by_poll && !outcome.plan.has_value() &&
      ReasonOf(outcome.status) == Reason::kClockUntrusted &&
      MetadataOf(outcome.status)["side"] == "destination")
    ++counts_["reckoning: sees what no poll has seen"];
}

void Tally::Add(const Scenario& scenario, const Outcome& outcome) {
  AddWorld(scenario, outcome);
  if (outcome.plan.has_value()) {
    AddPlan(scenario, outcome);
  } else {
    AddRefusal(outcome);
  }
}

int64_t Tally::operator[](const std::string& what) const {
  const auto count = counts_.find(what);
  return count == counts_.end() ? 0 : count->second;
}

std::string Tally::Text() const {
  std::string text;
  for (const auto& [what, count] : counts_) absl::StrAppend(&text, count, "\t", what, "\n");
  return text;
}

}  // namespace tsc_handoff::clock_sim
