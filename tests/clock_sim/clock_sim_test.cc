// A hundred thousand handoffs between simulated hosts whose clocks drift, jump, lie and go through
// leap seconds, with the delivered code deciding.
//
//     TSC_SIM_SEED=N        runs that handoff alone, and tells what came of it
//     TSC_SIM_HANDOFFS=N    runs so many instead
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/clock_sim/check.h"
#include "tests/clock_sim/handoff_run.h"
#include "tests/clock_sim/scenario.h"
#include "tests/clock_sim/tally.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr uint64_t kFirstSeed = 1;
constexpr int64_t kHandoffs = 100'000;
// Enough to see what a fault's cases have in common.
constexpr int kFailuresShown = 20;

std::optional<int64_t> FromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  int64_t value = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

// What did not hold, in a line each; empty when all did.
std::string Wrong(const Scenario& scenario, const Outcome& outcome) {
  std::string text;
  for (const std::string& sentence : Violations(scenario, outcome))
    absl::StrAppend(&text, sentence, "\n");
  return text;
}

// Otherwise the simulation could stop testing and nobody would see it. Per 100,000 handoffs, which
// is about half of what there is.
struct AtLeast {
  const char* what;
  int64_t times;
};
constexpr AtLeast kAtLeast[] = {
    {"plan: on the clocks' word", 5'000},
    {"plan: narrowed by the probe", 9'000},
    {"plan: the clocks within the probe", 1'200},
    {"plan: on the probe alone", 1'000},
    {"plan: on one host", 2'000},
    {"plan: without a bound", 600},
    {"plan: after a wait", 2'000},
    {"plan: guest of the host's rate", 6'000},
    {"plan: guest unscaled", 6'000},
    {"plan: guest scaled by 32 bits", 3'000},
    {"plan: guest scaled by 48 bits", 3'000},
    {"plan: a host's TSC wrapped", 300},
    {"plan: the guest's TSC wrapped", 1'500},
    {"plan: across a leap second, by TAI", 40},
    {"plan: across a leap second, without TAI", 15},
    {"refused: CLOCK_UNTRUSTED source", 8'000},
    {"refused: CLOCK_UNTRUSTED destination", 7'000},
    {"refused: CLOCKS_DISAGREE", 1'200},
    {"refused: CLOCK_BOUND_EXCEEDED", 3'000},
    {"refused: TIME_WOULD_GO_BACK", 800},
    {"refused: ELAPSED_OUT_OF_RANGE", 4'000},
    {"refused: PEER_UNREACHABLE", 3'500},
    {"refused: REQUEST_INVALID", 900},
    {"refused: after a wait", 100},
    {"capture: sees what no poll has seen", 2'500},
    {"reckoning: sees what no poll has seen", 1'300},
    {"world: quiet", 5'000},
    {"world: a clock is stepped", 25'000},
    {"world: a poll ends the trust", 15'000},
    {"world: leap second", 3'500},
    {"world: smear", 2'000},
    {"world: missed leap", 2'000},
    {"world: wander", 2'500},
    {"world: offset", 7'000},
    // The lies are such that they do harm where nothing is measured.
    {"bound is wrong: lying, not probed", 300},
};

// Runs one handoff; false when something did not hold.
bool RunOne(uint64_t seed, bool show, Tally& tally) {
  const Scenario scenario = DrawScenario(seed);
  const Outcome outcome = RunHandoff(scenario);
  tally.Add(scenario, outcome);
  const std::string wrong = Wrong(scenario, outcome);
  if (wrong.empty()) return true;
  if (show) ADD_FAILURE() << wrong << Describe(scenario);
  return false;
}

TEST(ClockSimTest, EveryHandoffKeepsItsPromises) {
  const std::optional<int64_t> only = FromEnvironment("TSC_SIM_SEED");
  const int64_t handoffs =
      only.has_value() ? 1 : FromEnvironment("TSC_SIM_HANDOFFS").value_or(kHandoffs);
  const uint64_t first = only.has_value() ? static_cast<uint64_t>(*only) : kFirstSeed;
  Tally tally;
  int failures = 0;
  for (int64_t i = 0; i < handoffs; ++i) {
    if (!RunOne(first + static_cast<uint64_t>(i), failures < kFailuresShown, tally)) ++failures;
  }
  std::cout << tally.Text();
  EXPECT_EQ(failures, 0);
  if (only.has_value()) {
    std::cout << Describe(DrawScenario(first)) << "\n";
    return;
  }
  for (const AtLeast& least : kAtLeast)
    EXPECT_GE(tally[least.what], least.times * handoffs / kHandoffs) << least.what;
}

}  // namespace
}  // namespace tsc_handoff::clock_sim
