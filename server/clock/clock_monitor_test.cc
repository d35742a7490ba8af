#include "server/clock/clock_monitor.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kHour = 3'600'000 * kMs;
constexpr int64_t kWall = 1'700'000'000'000'000'000;
constexpr std::chrono::seconds kDeadline{30};

// Time goes on by a few ns with each reading, and by what the test adds.
struct FakeTime {
  std::atomic<int64_t> monotonic_ns{5'000'000'000};
  std::atomic<int64_t> stepped_ns{0};
};

class FakeHostClock final : public HostClock {
 public:
  explicit FakeHostClock(FakeTime& time) : time_(time) {}
  uint64_t ReadTsc() override { return 0; }
  int64_t ReadRealtimeNs() override {
    return kWall + time_.monotonic_ns.fetch_add(10) + time_.stepped_ns;
  }
  int64_t ReadMonotonicNs() override { return time_.monotonic_ns.fetch_add(10); }
  void SleepNs(int64_t) override { ADD_FAILURE() << "a monitor waits for its descriptors"; }

 private:
  FakeTime& time_;
};

// What the source was asked, and what it says; outlives the monitor.
class Script {
 public:
  SourceReport Ask(int64_t monotonic_ns) {
    std::unique_lock<std::mutex> lock(mutex_);
    asked_at_ns_.push_back(monotonic_ns);
    changed_.notify_all();
    EXPECT_TRUE(changed_.wait_for(lock, kDeadline, [&] { return !held_; }));
    return report_;
  }
  void Say(SourceReport report) {
    std::lock_guard<std::mutex> lock(mutex_);
    report_ = std::move(report);
  }
  // Keeps the source from answering.
  void Hold(bool held) {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = held;
    changed_.notify_all();
  }
  bool WaitUntilAsked(size_t times) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, kDeadline, [&] { return asked_at_ns_.size() >= times; });
  }
  // Until a poll that began after this call is complete.
  bool WaitForAWholePoll() { return WaitUntilAsked(asked_at_ns().size() + 2); }
  std::vector<int64_t> asked_at_ns() {
    std::lock_guard<std::mutex> lock(mutex_);
    return asked_at_ns_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int64_t> asked_at_ns_;
  SourceReport report_;
  bool held_ = false;
};

class ScriptedSource final : public ClockSource {
 public:
  explicit ScriptedSource(Script& script) : script_(script) {}
  SourceReport Ask(int64_t monotonic_ns) override { return script_.Ask(monotonic_ns); }

 private:
  Script& script_;
};

SourceReport Good(int64_t error_bound_ns) {
  SourceReport report;
  report.word = SourceReport::Word::kSynchronised;
  report.error_bound_ns = error_bound_ns;
  report.source = "fixed";
  return report;
}

SourceReport Silent() {
  SourceReport report;
  report.problem = "it does not answer";
  return report;
}

class ClockMonitorTest : public testing::Test {
 protected:
  ClockMonitorTest() { script_.Say(Good(1'000)); }

  void Start(int64_t poll_interval_ns) {
    MonitorOptions options;
    options.tracker.drift_ppm = 77;
    options.poll_interval_ns = poll_interval_ns;
    monitor_ = std::make_unique<ClockMonitor>(options, std::make_unique<ScriptedSource>(script_),
                                              std::make_unique<FakeHostClock>(time_));
  }

  FakeTime time_;
  Script script_;
  std::unique_ptr<ClockMonitor> monitor_;
};

TEST_F(ClockMonitorTest, HasAWordFromTheStart) {
  const int64_t before_ns = time_.monotonic_ns;
  Start(kHour);
  const ClockSnapshot snapshot = monitor_->Snapshot();
  EXPECT_TRUE(snapshot.quality.trusted);
  EXPECT_EQ(snapshot.quality.status, ClockStatus::kSynchronised);
  EXPECT_EQ(snapshot.quality.error_bound_ns, 1'000);
  EXPECT_EQ(snapshot.drift_ppm, 77u) << "by the tracker's options";
  const std::vector<int64_t> asked_at_ns = script_.asked_at_ns();
  ASSERT_EQ(asked_at_ns.size(), 1u);
  EXPECT_EQ(snapshot.taken.monotonic_ns, asked_at_ns[0]);
  EXPECT_GT(asked_at_ns[0], before_ns);
  EXPECT_LT(asked_at_ns[0], time_.monotonic_ns);
}

TEST_F(ClockMonitorTest, AsksAgainAndKeepsTheNewestWord) {
  Start(kMs);
  for (const int64_t bound_ns : {2'000, 3'000, 4'000}) {
    script_.Say(Good(bound_ns));
    ASSERT_TRUE(script_.WaitForAWholePoll());
    EXPECT_EQ(monitor_->Snapshot().quality.error_bound_ns, bound_ns);
  }
  const std::vector<int64_t> asked_at_ns = script_.asked_at_ns();
  for (size_t i = 1; i < asked_at_ns.size(); ++i)
    EXPECT_GT(asked_at_ns[i], asked_at_ns[i - 1]) << "time of the host's clock";
}

TEST_F(ClockMonitorTest, RemembersFromPollToPoll) {
  Start(kMs);
  script_.Say(Silent());
  ASSERT_TRUE(script_.WaitForAWholePoll());
  EXPECT_EQ(monitor_->Snapshot().quality.status, ClockStatus::kFreeRunning);
  EXPECT_TRUE(monitor_->Snapshot().quality.trusted);
  time_.monotonic_ns += kHour;
  ASSERT_TRUE(script_.WaitForAWholePoll());
  EXPECT_FALSE(monitor_->Snapshot().quality.trusted);
  EXPECT_EQ(monitor_->Snapshot().quality.untrusted_reason, "it does not answer");
}

TEST_F(ClockMonitorTest, SeesAStepAtTheNextPoll) {
  Start(kMs);
  time_.stepped_ns = 300 * kMs;
  ASSERT_TRUE(script_.WaitForAWholePoll());
  const ClockSnapshot snapshot = monitor_->Snapshot();
  EXPECT_FALSE(snapshot.quality.trusted);
  EXPECT_NE(snapshot.quality.untrusted_reason.find("stepped"), std::string::npos)
      << snapshot.quality.untrusted_reason;
}

TEST_F(ClockMonitorTest, ASourceThatTakesItsTimeKeepsNobodyWaiting) {
  Start(kMs);
  script_.Hold(true);
  const size_t asked = script_.asked_at_ns().size();
  ASSERT_TRUE(script_.WaitUntilAsked(asked + 1));
  // The source answers only after this.
  EXPECT_EQ(monitor_->Snapshot().quality.error_bound_ns, 1'000);
  script_.Hold(false);
}

TEST_F(ClockMonitorTest, StopsWithoutWaitingForTheNextPoll) {
  Start(kHour);
  const auto before = std::chrono::steady_clock::now();
  monitor_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, kDeadline);
  EXPECT_EQ(script_.asked_at_ns().size(), 1u) << "nothing to ask at the end";
}

TEST_F(ClockMonitorTest, StopsBetweenManyPolls) {
  for (int i = 0; i < 20; ++i) {
    Start(kMs);
    monitor_.reset();
  }
  const size_t asked = script_.asked_at_ns().size();
  EXPECT_GE(asked, 20u);
}

}  // namespace
}  // namespace tsc_handoff::clock
