// 20,000 worlds of the handoff simulation, and the deliberate bugs that it must find.
//
//     ./run simulate --seed N --trace      tells what happens in one of them
#include <spdlog/spdlog.h>

#include <cstdint>
#include <iostream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/simulate/bugs.h"
#include "tests/simulate/simulation.h"

namespace tsc_handoff::simulate {
namespace {

constexpr uint64_t kFirstSeed = 1;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kSeeds = 1'000;  // as many as there is time for
#else
constexpr int64_t kSeeds = 20'000;
#endif
constexpr uint64_t kSeedsForABug = 10'000;
constexpr int kFailuresShown = 10;

// Otherwise the simulation could stop testing and nobody would see it. Per 20,000 worlds, which is
// about half of what there is.
struct AtLeast {
  Fact what;
  int64_t times;
};
constexpr AtLeast kAtLeast[] = {
    {Fact::kHandoff, 50'000},
    {Fact::kCommitted, 40'000},
    {Fact::kAborted, 6'000},
    {Fact::kAbortedUnheard, 5'000},
    {Fact::kRestored, 500},
    {Fact::kRecovered, 1'000},
    {Fact::kVmLost, 1'000},
    {Fact::kReapplied, 3'000},
    {Fact::kReleasedUnapplied, 1'000},
    {Fact::kRepeated, 10'000},
    {Fact::kConflict, 5'000},
    {Fact::kStaleEpoch, 1'000},
    {Fact::kDecided, 7'000},
    {Fact::kUndecided, 30'000},
    {Fact::kBusy, 2'000},
    {Fact::kIdReused, 70},
    {Fact::kClockRefused, 5'000},
    {Fact::kVmRunning, 6'000},
    {Fact::kVmmGone, 4'000},
    {Fact::kCancelled, 900},
    {Fact::kJournalUnavailable, 20'000},
    {Fact::kRollbackFailed, 100},
    {Fact::kAgentCrashed, 60'000},
    {Fact::kCrashedUnsynced, 1'000},
    {Fact::kCrashedUntold, 2'000},
    {Fact::kVmmDied, 100'000},
    {Fact::kVmmReconnected, 400'000},
    {Fact::kOrchestratorDied, 9'000},
    {Fact::kMessageLost, 60'000},
    {Fact::kMessageLate, 40'000},
    {Fact::kMessageAgain, 40'000},
    {Fact::kClockStepped, 300'000},
    {Fact::kTwoOrchestrators, 10'000},
    {Fact::kTwoHandoffs, 7'000},
    {Fact::kCameBack, 10'000},
    {Fact::kResumedByAnother, 6'000},
    {Fact::kEndedInCalm, 1'000},
    {Fact::kForgotten, 300'000},
};

TEST(SimulateTest, EveryWorldKeepsThePromises) {
  spdlog::set_level(spdlog::level::off);
  Tally tally;
  int failures = 0;
  for (int64_t i = 0; i < kSeeds && failures < kFailuresShown; ++i) {
    const uint64_t seed = kFirstSeed + static_cast<uint64_t>(i);
    const std::string wrong = Simulation(seed, Bugs(), nullptr, tally).Run();
    if (wrong.empty()) continue;
    ++failures;
    ADD_FAILURE() << wrong << "\n./run simulate --seed " << seed << " --trace";
  }
  std::cout << tally.Text();
  if (failures > 0) return;
  for (const AtLeast& least : kAtLeast)
    EXPECT_GE(tally[least.what], least.times * kSeeds / 20'000) << NameOf(least.what);
}

class BugTest : public testing::TestWithParam<Bug> {};

TEST_P(BugTest, IsFound) {
  spdlog::set_level(spdlog::level::off);
  Tally tally;
  for (uint64_t seed = 1; seed <= kSeedsForABug; ++seed) {
    const std::string wrong = Simulation(seed, GetParam().bugs, nullptr, tally).Run();
    if (wrong.empty()) continue;
    std::cout << "found with seed " << seed << ": " << wrong << "\n";
    return;
  }
  FAIL() << "not found in " << kSeedsForABug << " worlds";
}

INSTANTIATE_TEST_SUITE_P(Bugs, BugTest, testing::ValuesIn(kBugs), [](const auto& test) {
  std::string name = test.param.name;
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
});

TEST(SimulateTest, TheSameSeedIsTheSameWorld) {
  spdlog::set_level(spdlog::level::off);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::ostringstream one;
    std::ostringstream other;
    Tally tally;
    EXPECT_EQ(Simulation(seed, Bugs(), &one, tally).Run(),
              Simulation(seed, Bugs(), &other, tally).Run());
    EXPECT_EQ(one.str(), other.str()) << seed;
    EXPECT_FALSE(one.str().empty());
  }
}

}  // namespace
}  // namespace tsc_handoff::simulate
