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
constexpr int kFailuresShown = 200000;

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

// Otherwise the simulation could stop testing and nobody would see it. Per 100,000 handoffs.
struct AtLeast {
  const char* what;
  int64_t times;
};
constexpr AtLeast kAtLeast[] = {
    {"world: quiet", 1'000},
};

TEST(ClockSimTest, EveryHandoffKeepsItsPromises) {
  if (FromEnvironment("TSC_SIM_SEED").has_value()) GTEST_SKIP() << "one handoff is asked for";
  const int64_t handoffs = FromEnvironment("TSC_SIM_HANDOFFS").value_or(kHandoffs);
  Tally tally;
  int failures = 0;
  for (int64_t i = 0; i < handoffs; ++i) {
    const Scenario scenario = DrawScenario(kFirstSeed + static_cast<uint64_t>(i));
    const Outcome outcome = RunHandoff(scenario);
    tally.Add(scenario, outcome);
    const std::string wrong = Wrong(scenario, outcome);
    if (wrong.empty() || ++failures > kFailuresShown) continue;
    ADD_FAILURE() << wrong << Describe(scenario);
  }
  EXPECT_EQ(failures, 0);
  for (const AtLeast& least : kAtLeast)
    EXPECT_GE(tally[least.what], least.times * handoffs / kHandoffs) << least.what;
  std::cout << tally.Text();
}

TEST(ClockSimTest, OneHandoffByItsSeed) {
  const std::optional<int64_t> seed = FromEnvironment("TSC_SIM_SEED");
  if (!seed.has_value()) GTEST_SKIP() << "set TSC_SIM_SEED to repeat a handoff";
  const Scenario scenario = DrawScenario(static_cast<uint64_t>(*seed));
  const Outcome outcome = RunHandoff(scenario);
  Tally tally;
  tally.Add(scenario, outcome);
  std::cout << Describe(scenario) << "\n"
            << std::string(outcome.status.message()) << "\n"
            << tally.Text();
  EXPECT_EQ(Wrong(scenario, outcome), "");
}

}  // namespace
}  // namespace tsc_handoff::clock_sim
