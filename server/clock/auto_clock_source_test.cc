#include "server/clock/auto_clock_source.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kStickyS = 10;

// Says what the test has it say.
class ScriptedSource final : public ClockSource {
 public:
  struct State {
    Word word = Word::kNoAnswer;
    std::vector<int64_t> asked_ns;
  };
  ScriptedSource(std::string name, State& state) : name_(std::move(name)), state_(state) {}

  SourceReport Ask(int64_t monotonic_ns) override {
    state_.asked_ns.push_back(monotonic_ns);
    SourceReport report;
    report.source = name_;
    report.word = state_.word;
    if (state_.word != Word::kSynchronised) report.problem = name_ + " is not well";
    return report;
  }

 private:
  const std::string name_;
  State& state_;
};

class AutoClockSourceTest : public testing::Test {
 protected:
  SourceReport AskAt(int64_t second) { return source_.Ask(second * kSecond); }

  ScriptedSource::State chrony_;
  ScriptedSource::State kernel_{Word::kSynchronised, {}};
  AutoClockSource source_{std::make_unique<ScriptedSource>("chrony", chrony_),
                          std::make_unique<ScriptedSource>("kernel", kernel_), kStickyS* kSecond};
};

TEST_F(AutoClockSourceTest, ChronyComesFirst) {
  chrony_.word = Word::kSynchronised;
  EXPECT_EQ(AskAt(0).source, "chrony");
}

TEST_F(AutoClockSourceTest, WithoutChronyTheKernelSpeaksAtOnce) {
  const SourceReport report = AskAt(0);
  EXPECT_EQ(report.source, "kernel");
  EXPECT_EQ(report.word, Word::kSynchronised);
  EXPECT_EQ(report.problem, "");
}

TEST_F(AutoClockSourceTest, TheKernelCannotOutvoteAChronydThatAnswers) {
  chrony_.word = Word::kUnsynchronised;
  for (int64_t second = 0; second < 30; ++second) {
    const SourceReport report = AskAt(second);
    EXPECT_EQ(report.source, "chrony");
    EXPECT_EQ(report.word, Word::kUnsynchronised);
  }
}

TEST_F(AutoClockSourceTest, ASilentChronydStaysInChargeForAWhile) {
  chrony_.word = Word::kSynchronised;
  AskAt(0);
  chrony_.word = Word::kNoAnswer;
  for (int64_t second = 1; second <= kStickyS; ++second) {
    const SourceReport report = AskAt(second);
    EXPECT_EQ(report.source, "chrony") << second;
    EXPECT_EQ(report.word, Word::kNoAnswer) << second;
  }
  EXPECT_EQ(AskAt(kStickyS + 1).source, "kernel");
  chrony_.word = Word::kSynchronised;
  EXPECT_EQ(AskAt(kStickyS + 2).source, "chrony") << "back at once";
}

TEST_F(AutoClockSourceTest, EachAnswerOfChronyCountsAnew) {
  for (int64_t second = 0; second < 40; ++second) {
    chrony_.word = second % kStickyS == 0 ? Word::kUnsynchronised : Word::kNoAnswer;
    EXPECT_EQ(AskAt(second).source, "chrony") << second;
  }
}

// The kernel's source knows the age of its daemon's updates only if it is asked all the time.
TEST_F(AutoClockSourceTest, BothAreAskedEachTime) {
  chrony_.word = Word::kSynchronised;
  AskAt(0);
  AskAt(1);
  const std::vector<int64_t> both = {0, kSecond};
  EXPECT_EQ(chrony_.asked_ns, both);
  EXPECT_EQ(kernel_.asked_ns, both);
}

TEST_F(AutoClockSourceTest, WhereNeitherHelpsBothAreNamed) {
  kernel_.word = Word::kUnsynchronised;
  const SourceReport report = AskAt(0);
  EXPECT_EQ(report.source, "kernel");
  EXPECT_EQ(report.word, Word::kUnsynchronised);
  EXPECT_EQ(report.problem, "kernel is not well (chrony is not well)");
}

}  // namespace
}  // namespace tsc_handoff::clock
