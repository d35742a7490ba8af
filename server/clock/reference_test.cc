#include "server/clock/reference.h"

#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

constexpr uint32_t kKhz = 2'000'000;  // 2 ticks a ns
constexpr int64_t kStartNs = 1'700'000'000'000'000'000;

constexpr int64_t kUptimeNs = 5'000'000'000;
// A bracket is RDTSC, the wall clock, RDTSC; CLOCK_MONOTONIC and a last RDTSC follow it.
constexpr int kReads = 5;

// A host whose reads take as long as the test says. True time is in ticks of the TSC, and so exact.
class ScriptedClock final : public HostClock {
 public:
  // `delay_ticks(k)`: how long the k-th read takes before it takes its value, k from 0.
  explicit ScriptedClock(std::function<uint64_t(int)> delay_ticks)
      : delay_ticks_(std::move(delay_ticks)) {}

  uint64_t ReadTsc() override {
    Pass();
    const auto back = tsc_behind_ticks_.find(read_ - 1);
    return now_ticks_ - (back == tsc_behind_ticks_.end() ? 0 : back->second);
  }
  int64_t ReadRealtimeNs() override {
    Pass();
    return RealtimeAt(now_ticks_);
  }
  int64_t ReadMonotonicNs() override {
    Pass();
    return kUptimeNs + PassedNs(now_ticks_);
  }
  void SleepNs(int64_t) override { ADD_FAILURE() << "a reference waits for nothing"; }

  int64_t RealtimeAt(uint64_t ticks) const {
    return realtime_start_ns_ + PassedNs(ticks) + (read_ > step_at_read_ ? step_ns_ : 0);
  }
  // Lets the k-th read give a value that lies back.
  void SetBehind(int read, uint64_t ticks) { tsc_behind_ticks_[read] = ticks; }
  void SetRealtimeStart(int64_t ns) { realtime_start_ns_ = ns; }
  // Steps the wall clock just before the k-th read.
  void StepBefore(int read, int64_t ns) {
    step_at_read_ = read;
    step_ns_ = ns;
  }
  int reads() const { return read_; }

 private:
  void Pass() { now_ticks_ += delay_ticks_(read_++); }
  int64_t PassedNs(uint64_t ticks) const {
    return static_cast<int64_t>((ticks - start_ticks_) / (khz_ / 1'000'000));
  }

  const std::function<uint64_t(int)> delay_ticks_;
  const uint64_t start_ticks_ = 1'000'000'000'000;
  const uint32_t khz_ = kKhz;
  int64_t realtime_start_ns_ = kStartNs;
  uint64_t now_ticks_ = start_ticks_;
  int read_ = 0;
  int step_at_read_ = std::numeric_limits<int>::max();
  int64_t step_ns_ = 0;
  std::map<int, uint64_t> tsc_behind_ticks_;
};

// What was known a second before the host's first read.
ClockSnapshot Trusted(int64_t realtime_start_ns = kStartNs) {
  ClockSnapshot snapshot;
  snapshot.quality.status = ClockStatus::kSynchronised;
  snapshot.quality.trusted = true;
  snapshot.quality.error_bound_ns = 300'000;
  snapshot.quality.tai_offset_s = 37;
  snapshot.quality.source = "kernel";
  snapshot.taken = {realtime_start_ns - 1'000'000'000, kUptimeNs - 1'000'000'000, 0};
  snapshot.drift_ppm = 100;
  snapshot.trusted_until_ns = std::numeric_limits<int64_t>::max();
  return snapshot;
}

// What was shown of the clock when the test's CLOCK_MONOTONIC was read.
struct Seen {
  int64_t passed_ns = 0;  // since the host's start
  int64_t shift_ns = 0;   // by which the wall clock seems to have moved
  int64_t width_ns = 0;   // of the whole reading
};
// The bound of Trusted() then: grown by drift since, and by what the reading could hide.
int64_t BoundNs(const Seen& seen) {
  return 300'000 + DriftNs(1'000'000'000 + seen.passed_ns, 100) + std::abs(seen.shift_ns) +
         seen.width_ns + 2;
}

TEST(TakeReferenceTest, IsTheMiddleOfTheNarrowestBracket) {
  constexpr int kNarrow = 11;
  ScriptedClock host([](int read) { return read / kReads == kNarrow ? 30u : 100u; });
  const auto reference = TakeReference(host, Trusted(), kKhz);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(host.reads(), kReads * kBrackets);
  // Reads before it: 11 brackets of 5 at 100 ticks; then RDTSC at +30, the clock at +60, RDTSC at
  // +90, CLOCK_MONOTONIC at +120, RDTSC at +150.
  EXPECT_EQ(reference->host_tsc_ticks, 1'000'000'000'000u + 5500 + 60);
  EXPECT_EQ(reference->realtime_ns, kStartNs + (5500 + 60) / 2);
  EXPECT_EQ(reference->read_error_ns, 15 + 1)
      << "60 ticks wide are 30 ns, half of it, and 1 for the clock";
  EXPECT_EQ(reference->clock_error_ns,
            BoundNs({.passed_ns = (5500 + 120) / 2, .shift_ns = (60 - 120) / 2, .width_ns = 60}));
  EXPECT_TRUE(reference->clock_trusted);
  EXPECT_EQ(reference->tai_offset_s, 37);
  EXPECT_FALSE(reference->leap_second);
  EXPECT_EQ(reference->host_tsc_khz, kKhz);
  EXPECT_EQ(reference->method, time::ReferenceMethod::kBracketed);
}

TEST(TakeReferenceTest, OddWidthsAndFrequenciesRoundUp) {
  ScriptedClock host([](int read) { return read % kReads == 2 ? 32u : 31u; });  // 63 ticks wide
  const auto reference = TakeReference(host, Trusted(), 2'999'999);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(reference->host_tsc_ticks, 1'000'000'000'000u + 31 + 31);
  // The longer half has 32 ticks: 10.67 ns, rounded up to 11.
  EXPECT_EQ(reference->read_error_ns, 12);
}

TEST(TakeReferenceTest, ADelayInAnyOneReadIsShakenOff) {
  constexpr uint64_t kSmiTicks = 400'000;  // 200 us
  for (int slow = 0; slow < kReads * kBrackets; ++slow) {
    ScriptedClock host([=](int read) { return 50 + (read == slow ? kSmiTicks : 0); });
    const auto reference = TakeReference(host, Trusted(), kKhz);
    ASSERT_TRUE(reference.has_value());
    EXPECT_EQ(reference->read_error_ns, 26) << "delay in read " << slow;
    EXPECT_EQ(reference->realtime_ns, host.RealtimeAt(reference->host_tsc_ticks))
        << "delay in read " << slow;
  }
}

TEST(TakeReferenceTest, ADelayInEveryBracketWidensTheError) {
  // In each bracket one read takes 200 us, whichever it is.
  for (int slow = 1; slow < 3; ++slow) {
    ScriptedClock host([=](int read) { return read % kReads == slow ? 400'000u : 50u; });
    const auto reference = TakeReference(host, Trusted(), kKhz);
    ASSERT_TRUE(reference.has_value());
    const int64_t off_ns =
        std::abs(reference->realtime_ns - host.RealtimeAt(reference->host_tsc_ticks));
    EXPECT_GT(off_ns, 90'000);
    EXPECT_LE(off_ns, reference->read_error_ns);
    EXPECT_LE(reference->read_error_ns, 100'120);
  }
}

TEST(TakeReferenceTest, StatedErrorCoversTheTrueInstantAlways) {
  std::mt19937_64 random(4711);
  for (int round = 0; round < 3000; ++round) {
    const int widest_bits = 1 + static_cast<int>(random() % 24);
    std::vector<uint64_t> delays(kReads * kBrackets);
    for (uint64_t& delay : delays) delay = random() >> (64 - widest_bits);
    ScriptedClock host([&](int read) { return delays[static_cast<size_t>(read)]; });
    const auto reference = TakeReference(host, Trusted(), kKhz);
    ASSERT_TRUE(reference.has_value());
    // What the clock showed at the reference's instant, against what the reference says that it
    // showed.
    const int64_t off_ns =
        std::abs(reference->realtime_ns - host.RealtimeAt(reference->host_tsc_ticks));
    ASSERT_LE(off_ns, reference->read_error_ns) << "round " << round;
    ASSERT_TRUE(reference->clock_trusted) << "nobody stepped the clock; round " << round;
  }
}

TEST(TakeReferenceTest, BracketsInWhichTheTscGoesBackAreDropped) {
  for (const int read : {2, 4}) {
    ScriptedClock host([](int) { return 50u; });
    // All but the last bracket end before they began. Their widths would be the narrowest, were
    // they signed.
    for (int bracket = 0; bracket < kBrackets - 1; ++bracket)
      host.SetBehind(kReads * bracket + read, 101);
    const auto reference = TakeReference(host, Trusted(), kKhz);
    ASSERT_TRUE(reference.has_value());
    EXPECT_EQ(reference->host_tsc_ticks, 1'000'000'000'000u + 50 * (kReads * (kBrackets - 1) + 2))
        << read;
  }
}

TEST(TakeReferenceTest, ATscThatAlwaysGoesBackIsNoClock) {
  for (const int read : {2, 4}) {
    ScriptedClock host([](int) { return 50u; });
    for (int bracket = 0; bracket < kBrackets; ++bracket)
      host.SetBehind(kReads * bracket + read, 101);
    EXPECT_FALSE(TakeReference(host, Trusted(), kKhz).has_value()) << read;
  }
}

TEST(TakeReferenceTest, AWallClockAtOrBeforeTheEpochIsNoClock) {
  for (const int64_t start_ns :
       {int64_t{-1'000'000}, int64_t{-1}, std::numeric_limits<int64_t>::min() / 2}) {
    ScriptedClock host([](int) { return 0u; });
    host.SetRealtimeStart(start_ns);
    EXPECT_FALSE(TakeReference(host, Trusted(), kKhz).has_value()) << start_ns;
  }
}

TEST(TakeReferenceTest, AHugeBracketSaturates) {
  ScriptedClock host([](int read) { return read % kReads == 1 ? uint64_t{1} << 59 : 0; });
  const auto reference = TakeReference(host, Trusted(), 1);
  ASSERT_TRUE(reference.has_value());
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(reference->read_error_ns, kMax);
  EXPECT_EQ(reference->clock_error_ns, reference->clock_trusted ? kMax : 0);
}

TEST(TakeReferenceTest, AnUntrustedClockStatesNoBound) {
  ScriptedClock host([](int) { return 50u; });
  ClockSnapshot untrusted = Trusted();
  untrusted.quality.trusted = false;
  untrusted.quality.leap_second = true;
  const auto reference = TakeReference(host, untrusted, kKhz);
  ASSERT_TRUE(reference.has_value());
  EXPECT_FALSE(reference->clock_trusted);
  EXPECT_EQ(reference->clock_error_ns, 0);
  EXPECT_EQ(reference->tai_offset_s, 37);
  EXPECT_TRUE(reference->leap_second);
}

TEST(TakeReferenceTest, ASourceThatIsSilentForTooLongIsNotTrusted) {
  // CLOCK_MONOTONIC is read 100 ns after the start: the fourth read of 25 ns each.
  for (const int64_t until_ns : {kUptimeNs + 100, kUptimeNs + 99}) {
    ScriptedClock host([](int) { return 50u; });
    ClockSnapshot snapshot = Trusted();
    snapshot.trusted_until_ns = until_ns;
    const auto reference = TakeReference(host, snapshot, kKhz);
    ASSERT_TRUE(reference.has_value());
    EXPECT_EQ(reference->clock_trusted, until_ns == kUptimeNs + 100);
  }
}

TEST(TakeReferenceTest, AStepSinceTheSnapshotIsSeenAsFarAsTheReadingIsWide) {
  struct Row {
    int64_t step_ns;
    bool trusted;
  };
  constexpr int64_t kHour = 3'600'000'000'000;
  // The reading is 100 ns wide, and the wall clock is read 50 ns before CLOCK_MONOTONIC.
  for (const Row& row :
       {Row{0, true}, Row{152, true}, Row{153, false}, Row{-52, true}, Row{-53, false},
        Row{1'000'000, false}, Row{-1'000'000, false}, Row{kHour, false}, Row{-kHour, false}}) {
    ScriptedClock host([](int) { return 50u; });
    host.StepBefore(0, row.step_ns);
    const auto reference = TakeReference(host, Trusted(), kKhz);
    ASSERT_TRUE(reference.has_value());
    EXPECT_EQ(reference->clock_trusted, row.trusted) << row.step_ns;
    const int64_t bound_ns =
        BoundNs({.passed_ns = 100, .shift_ns = row.step_ns - 50, .width_ns = 100});
    EXPECT_EQ(reference->clock_error_ns, row.trusted ? bound_ns : 0) << row.step_ns;
    EXPECT_GE(reference->clock_error_ns, row.trusted ? 300'000 + std::abs(row.step_ns) : 0);
  }
}

// Whichever bracket is kept: its wall clock is the one that the snapshot knows, or is not trusted.
TEST(TakeReferenceTest, AStepBetweenAnyTwoReadsIsNotMissed) {
  for (const int64_t step_ns : {int64_t{1'000'000}, int64_t{-1'000'000}}) {
    for (const int kept : {0, 7, kBrackets - 1}) {
      for (int step_at = 0; step_at <= kReads * kBrackets; ++step_at) {
        ScriptedClock host([=](int read) { return read / kReads == kept ? 30u : 50u; });
        host.StepBefore(step_at, step_ns);
        const auto reference = TakeReference(host, Trusted(), kKhz);
        ASSERT_TRUE(reference.has_value());
        const bool before_the_clock_was_read = step_at <= kReads * kept + 1;
        EXPECT_EQ(reference->clock_trusted, !before_the_clock_was_read)
            << "bracket " << kept << ", step before read " << step_at;
      }
    }
  }
}

TEST(TakeReferenceTest, WhatAReadingHidesOfAStepIsInTheBound) {
  std::mt19937_64 random(1213);
  int hidden = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint64_t> delays(kReads * kBrackets);
    for (uint64_t& delay : delays) delay = random() % (uint64_t{1} << (1 + random() % 20));
    ScriptedClock host([&](int read) { return delays[static_cast<size_t>(read)]; });
    const int64_t step_ns = static_cast<int64_t>(random() % 20'000) - 10'000;
    host.StepBefore(0, step_ns);
    const auto reference = TakeReference(host, Trusted(), kKhz);
    ASSERT_TRUE(reference.has_value());
    if (!reference->clock_trusted) continue;
    ++hidden;
    ASSERT_GE(reference->clock_error_ns, 300'000 + std::abs(step_ns)) << "round " << round;
  }
  EXPECT_GT(hidden, 100) << "too few steps were hidden for this to prove anything";
  EXPECT_LT(hidden, 2900) << "hardly any step was seen";
}

// A clock daemon slews both clocks alike; only the TSC shows it.
TEST(TakeReferenceTest, ASlewSinceTheSnapshotIsInTheBound) {
  for (const int64_t slewed_ns : {-80'000'000, 0, 80'000'000}) {
    ScriptedClock host([](int) { return 50u; });
    ClockSnapshot snapshot = Trusted();
    snapshot.host_tsc_khz = kKhz;
    snapshot.tsc_rate_ppm = 50;
    // A second before the first read, as the TSC counts; the clocks went on by more or less.
    snapshot.taken.host_tsc_ticks = 1'000'000'000'000 - uint64_t{kKhz} * 1'000;
    snapshot.taken.realtime_ns -= slewed_ns;
    snapshot.taken.monotonic_ns -= slewed_ns;
    const auto reference = TakeReference(host, snapshot, kKhz);
    ASSERT_TRUE(reference.has_value());
    ASSERT_TRUE(reference->clock_trusted);
    EXPECT_GE(reference->clock_error_ns, 300'000 + std::abs(slewed_ns));
    EXPECT_LE(reference->clock_error_ns, 300'000 + std::abs(slewed_ns) + 101'000);
  }
}

TEST(TakeReferenceTest, WorksOnThisMachine) {
  LinuxHostClock host;
  ClockSnapshot snapshot = Trusted();
  snapshot.taken = ReadInstant(host);
  const int64_t before_ns = host.ReadRealtimeNs();
  const uint64_t before_ticks = host.ReadTsc();
  const auto reference = TakeReference(host, snapshot, kKhz);
  const uint64_t after_ticks = host.ReadTsc();
  const int64_t after_ns = host.ReadRealtimeNs();
  ASSERT_TRUE(reference.has_value());
  EXPECT_GE(reference->host_tsc_ticks, before_ticks);
  EXPECT_LE(reference->host_tsc_ticks, after_ticks);
  EXPECT_GE(reference->realtime_ns, before_ns);
  EXPECT_LE(reference->realtime_ns, after_ns);
  EXPECT_TRUE(reference->clock_trusted) << "was this machine's clock stepped meanwhile?";
  RecordProperty("read_error_ns", std::to_string(reference->read_error_ns));
}

// CLOCK_MONOTONIC, the wall clock, the TSC, CLOCK_MONOTONIC, kBrackets times.
TEST(ReadInstantTest, KeepsTheNarrowest) {
  for (int narrow = 0; narrow < kBrackets; ++narrow) {
    ScriptedClock host([=](int read) { return read / 4 == narrow ? 30u : 100u; });
    const ClockInstant instant = ReadInstant(host);
    const int64_t at_ns = (narrow * 400 + 60) / 2;  // when the wall clock was read
    EXPECT_EQ(instant.realtime_ns, kStartNs + at_ns) << narrow;
    EXPECT_EQ(instant.monotonic_ns, kUptimeNs + at_ns - 15 + 45 / 2) << narrow;
    EXPECT_EQ(instant.width_ns, 45) << narrow;
    EXPECT_EQ(host.reads(), 4 * kBrackets);
  }
}

TEST(ReadInstantTest, AnyTwoShowAStepWithinTheirWidths) {
  std::mt19937_64 random(99);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint64_t> delays(2 * 4 * kBrackets);
    for (uint64_t& delay : delays) delay = random() % (uint64_t{1} << (1 + random() % 24));
    ScriptedClock host([&](int read) { return delays[static_cast<size_t>(read)]; });
    const int64_t step_ns = round % 2 == 0 ? 0 : static_cast<int64_t>(random() >> 24);
    host.StepBefore(4 * kBrackets, step_ns);
    const ClockInstant before = ReadInstant(host);
    const ClockInstant after = ReadInstant(host);
    const StepLook look = LookForStep(before, after);
    ASSERT_LE(std::abs(look.shift_ns - step_ns), look.uncertainty_ns) << "round " << round;
    ASSERT_TRUE(step_ns != 0 || !look.stepped()) << "round " << round;
    // The TSC was read within the width, too.
    const auto by_tsc_ns = static_cast<int64_t>(after.host_tsc_ticks - 1'000'000'000'000) / 2;
    ASSERT_LE(std::abs(by_tsc_ns - (after.monotonic_ns - kUptimeNs)), after.width_ns);
  }
}

TEST(ReadInstantTest, WorksOnThisMachine) {
  LinuxHostClock host;
  const int64_t before_ns = host.ReadMonotonicNs();
  const ClockInstant instant = ReadInstant(host);
  EXPECT_GE(instant.monotonic_ns, before_ns);
  EXPECT_LE(instant.monotonic_ns, host.ReadMonotonicNs());
  EXPECT_GE(instant.width_ns, 0);
  EXPECT_GT(instant.realtime_ns, 0);
}

TEST(TakeStampTest, IsTheMiddleOfTheNarrowestBracket) {
  constexpr int kNarrow = 1;
  ScriptedClock host([](int read) { return read / kReads == kNarrow ? 30u : 100u; });
  const auto stamp = TakeStamp(host, kKhz);
  ASSERT_TRUE(stamp.has_value());
  EXPECT_GT(host.reads(), kReads) << "one bracket would not shake off an interrupt";
  EXPECT_EQ(stamp->host_tsc_ticks, 1'000'000'000'000u + kReads * 100 + 60);
  EXPECT_EQ(stamp->realtime_ns, kStartNs + (kReads * 100 + 60) / 2);
  EXPECT_EQ(stamp->read_error_ns, 15 + 1);
}

TEST(TakeStampTest, StatedErrorCoversTheTrueInstantAlways) {
  std::mt19937_64 random(815);
  for (int round = 0; round < 3000; ++round) {
    ScriptedClock host([&](int) { return random() % (uint64_t{1} << (1 + random() % 24)); });
    const auto stamp = TakeStamp(host, kKhz);
    ASSERT_TRUE(stamp.has_value());
    ASSERT_LE(std::abs(stamp->realtime_ns - host.RealtimeAt(stamp->host_tsc_ticks)),
              stamp->read_error_ns)
        << "round " << round;
  }
}

TEST(TakeStampTest, ClocksThatAreNoneGiveNoStamp) {
  ScriptedClock backwards([](int) { return 50u; });
  for (int bracket = 0; bracket < kBrackets; ++bracket)
    backwards.SetBehind(kReads * bracket + 2, 101);
  EXPECT_FALSE(TakeStamp(backwards, kKhz).has_value());
  ScriptedClock before_the_epoch([](int) { return 50u; });
  before_the_epoch.SetRealtimeStart(-1'000'000);
  EXPECT_FALSE(TakeStamp(before_the_epoch, kKhz).has_value());
}

}  // namespace
}  // namespace tsc_handoff::clock
