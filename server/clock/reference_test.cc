#include "server/clock/reference.h"

#include <linux/kvm.h>

#include <algorithm>
#include <cmath>
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

  int64_t RealtimeAt(uint64_t ticks) const {
    return realtime_start_ns_ + static_cast<int64_t>((ticks - start_ticks_) / (khz_ / 1'000'000));
  }
  // Lets the k-th read give a value that lies back.
  void SetBehind(int read, uint64_t ticks) { tsc_behind_ticks_[read] = ticks; }
  void SetRealtimeStart(int64_t ns) { realtime_start_ns_ = ns; }
  int reads() const { return read_; }

 private:
  void Pass() { now_ticks_ += delay_ticks_(read_++); }

  const std::function<uint64_t(int)> delay_ticks_;
  const uint64_t start_ticks_ = 1'000'000'000'000;
  const uint32_t khz_ = kKhz;
  int64_t realtime_start_ns_ = kStartNs;
  uint64_t now_ticks_ = start_ticks_;
  int read_ = 0;
  std::map<int, uint64_t> tsc_behind_ticks_;
};

class StubSource final : public ClockSource {
 public:
  explicit StubSource(ClockQuality quality) : quality_(std::move(quality)) {}
  ClockQuality Read() override {
    if (on_read) on_read();
    return quality_;
  }
  std::function<void()> on_read;

 private:
  const ClockQuality quality_;
};

ClockQuality Trusted() {
  ClockQuality quality;
  quality.trusted = true;
  quality.error_bound_ns = 400'000;
  quality.tai_offset_s = 37;
  quality.source = "kernel";
  return quality;
}

TEST(TakeReferenceTest, IsTheMiddleOfTheNarrowestBracket) {
  constexpr int kNarrow = 11;
  ScriptedClock host([](int read) { return read / 3 == kNarrow ? 30u : 100u; });
  StubSource source(Trusted());
  const auto reference = TakeReference(host, source, kKhz);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(host.reads(), 3 * kBrackets);
  // Reads before it: 11 brackets of 3 at 100 ticks; then RDTSC at +30, the clock at +60, RDTSC at
  // +90.
  EXPECT_EQ(reference->host_tsc_ticks, 1'000'000'000'000u + 3300 + 60);
  EXPECT_EQ(reference->realtime_ns, kStartNs + (3300 + 60) / 2);
  EXPECT_EQ(reference->read_error_ns, 15 + 1)
      << "60 ticks wide are 30 ns, half of it, and 1 for the clock";
  EXPECT_EQ(reference->clock_error_ns, 400'000);
  EXPECT_TRUE(reference->clock_trusted);
  EXPECT_EQ(reference->tai_offset_s, 37);
  EXPECT_EQ(reference->host_tsc_khz, kKhz);
  EXPECT_EQ(reference->method, time::ReferenceMethod::kBracketed);
}

TEST(TakeReferenceTest, OddWidthsAndFrequenciesRoundUp) {
  ScriptedClock host([](int read) { return read % 3 == 2 ? 32u : 31u; });  // 63 ticks wide
  StubSource source(Trusted());
  const auto reference = TakeReference(host, source, 2'999'999);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(reference->host_tsc_ticks, 1'000'000'000'000u + 31 + 31);
  // The longer half has 32 ticks: 10.67 ns, rounded up to 11.
  EXPECT_EQ(reference->read_error_ns, 12);
}

TEST(TakeReferenceTest, ADelayInAnyOneReadIsShakenOff) {
  constexpr uint64_t kSmiTicks = 400'000;  // 200 us
  for (int slow = 0; slow < 3 * kBrackets; ++slow) {
    ScriptedClock host([=](int read) { return 50 + (read == slow ? kSmiTicks : 0); });
    StubSource source(Trusted());
    const auto reference = TakeReference(host, source, kKhz);
    ASSERT_TRUE(reference.has_value());
    EXPECT_EQ(reference->read_error_ns, 26) << "delay in read " << slow;
    EXPECT_EQ(reference->realtime_ns, host.RealtimeAt(reference->host_tsc_ticks))
        << "delay in read " << slow;
  }
}

TEST(TakeReferenceTest, ADelayInEveryBracketWidensTheError) {
  // In each bracket one read takes 200 us, whichever it is.
  for (int slow = 1; slow < 3; ++slow) {
    ScriptedClock host([=](int read) { return read % 3 == slow ? 400'000u : 50u; });
    StubSource source(Trusted());
    const auto reference = TakeReference(host, source, kKhz);
    ASSERT_TRUE(reference.has_value());
    const int64_t off_ns =
        std::abs(reference->realtime_ns - host.RealtimeAt(reference->host_tsc_ticks));
    EXPECT_GT(off_ns, 90'000);
    EXPECT_LE(off_ns, reference->read_error_ns);
    EXPECT_LE(reference->read_error_ns, 100'020);
  }
}

TEST(TakeReferenceTest, StatedErrorCoversTheTrueInstantAlways) {
  std::mt19937_64 random(4711);
  for (int round = 0; round < 3000; ++round) {
    const int widest_bits = 1 + static_cast<int>(random() % 24);
    std::vector<uint64_t> delays(3 * kBrackets);
    for (uint64_t& delay : delays) delay = random() >> (64 - widest_bits);
    ScriptedClock host([&](int read) { return delays[static_cast<size_t>(read)]; });
    StubSource source(Trusted());
    const auto reference = TakeReference(host, source, kKhz);
    ASSERT_TRUE(reference.has_value());
    // What the clock showed at the reference's instant, against what the reference says that it
    // showed.
    const int64_t off_ns =
        std::abs(reference->realtime_ns - host.RealtimeAt(reference->host_tsc_ticks));
    ASSERT_LE(off_ns, reference->read_error_ns) << "round " << round;
  }
}

TEST(TakeReferenceTest, BracketsInWhichTheTscGoesBackAreDropped) {
  ScriptedClock host([](int) { return 50u; });
  // All but the last bracket end before they began. Their widths would be the narrowest, were they
  // signed.
  for (int bracket = 0; bracket < kBrackets - 1; ++bracket) host.SetBehind(3 * bracket + 2, 101);
  StubSource source(Trusted());
  const auto reference = TakeReference(host, source, kKhz);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(reference->host_tsc_ticks, 1'000'000'000'000u + 50 * (3 * (kBrackets - 1) + 2));
}

TEST(TakeReferenceTest, ATscThatAlwaysGoesBackIsNoClock) {
  ScriptedClock host([](int) { return 50u; });
  for (int bracket = 0; bracket < kBrackets; ++bracket) host.SetBehind(3 * bracket + 2, 101);
  StubSource source(Trusted());
  EXPECT_FALSE(TakeReference(host, source, kKhz).has_value());
}

TEST(TakeReferenceTest, AWallClockAtOrBeforeTheEpochIsNoClock) {
  for (const int64_t start_ns :
       {int64_t{-1'000'000}, int64_t{-1}, std::numeric_limits<int64_t>::min() / 2}) {
    ScriptedClock host([](int) { return 0u; });
    host.SetRealtimeStart(start_ns);
    StubSource source(Trusted());
    EXPECT_FALSE(TakeReference(host, source, kKhz).has_value()) << start_ns;
  }
}

TEST(TakeReferenceTest, AHugeBracketSaturates) {
  ScriptedClock host([](int read) { return read % 3 == 1 ? uint64_t{1} << 59 : 0; });
  StubSource source(Trusted());
  const auto reference = TakeReference(host, source, 1);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(reference->read_error_ns, std::numeric_limits<int64_t>::max());
}

TEST(TakeReferenceTest, ReadsTheQualityBeforeTheBrackets) {
  ScriptedClock host([](int) { return 50u; });
  StubSource source(Trusted());
  int reads_before = -1;
  source.on_read = [&] { reads_before = host.reads(); };
  ASSERT_TRUE(TakeReference(host, source, kKhz).has_value());
  EXPECT_EQ(reads_before, 0);
}

TEST(TakeReferenceTest, AnUntrustedClockStatesNoBound) {
  ScriptedClock host([](int) { return 50u; });
  ClockQuality untrusted = Trusted();
  untrusted.trusted = false;
  StubSource source(untrusted);
  const auto reference = TakeReference(host, source, kKhz);
  ASSERT_TRUE(reference.has_value());
  EXPECT_FALSE(reference->clock_trusted);
  EXPECT_EQ(reference->clock_error_ns, 0);
}

TEST(TakeReferenceTest, WorksOnThisMachine) {
  LinuxHostClock host;
  StubSource source(Trusted());
  const int64_t before_ns = host.ReadRealtimeNs();
  const uint64_t before_ticks = host.ReadTsc();
  const auto reference = TakeReference(host, source, kKhz);
  const uint64_t after_ticks = host.ReadTsc();
  const int64_t after_ns = host.ReadRealtimeNs();
  ASSERT_TRUE(reference.has_value());
  EXPECT_GE(reference->host_tsc_ticks, before_ticks);
  EXPECT_LE(reference->host_tsc_ticks, after_ticks);
  EXPECT_GE(reference->realtime_ns, before_ns);
  EXPECT_LE(reference->realtime_ns, after_ns);
  RecordProperty("read_error_ns", std::to_string(reference->read_error_ns));
}

tsc_kvmclock KvmPair() {
  tsc_kvmclock pair = {};
  pair.kvmclock_ns = 5'000'000;
  pair.tsc_before_ticks = 1000;
  pair.pair_host_tsc_ticks = 1400;
  pair.tsc_after_ticks = 2000;
  pair.pair_realtime_ns = static_cast<uint64_t>(kStartNs);
  pair.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
  return pair;
}

TEST(ReferenceFromKvmTest, TakesTheKernelsPair) {
  const auto reference = ReferenceFromKvm(KvmPair(), Trusted(), kKhz);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(reference->host_tsc_ticks, 1400u);
  EXPECT_EQ(reference->realtime_ns, kStartNs);
  EXPECT_EQ(reference->read_error_ns, 1);
  EXPECT_EQ(reference->clock_error_ns, 400'000);
  EXPECT_EQ(reference->tai_offset_s, 37);
  EXPECT_TRUE(reference->clock_trusted);
  EXPECT_EQ(reference->host_tsc_khz, kKhz);
  EXPECT_EQ(reference->method, time::ReferenceMethod::kKvmGetClock);
}

TEST(ReferenceFromKvmTest, NeedsBothFlags) {
  tsc_kvmclock pair = KvmPair();
  for (const uint32_t flags :
       {0u, uint32_t{KVM_CLOCK_TSC_STABLE}, uint32_t{KVM_CLOCK_REALTIME},
        uint32_t{KVM_CLOCK_HOST_TSC}, uint32_t{KVM_CLOCK_TSC_STABLE | KVM_CLOCK_HOST_TSC}}) {
    pair.flags = flags;
    EXPECT_FALSE(ReferenceFromKvm(pair, Trusted(), kKhz).has_value()) << flags;
  }
  pair.flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
  EXPECT_TRUE(ReferenceFromKvm(pair, Trusted(), kKhz).has_value())
      << "the master clock is not needed";
}

TEST(ReferenceFromKvmTest, RefusesAPairFromOutsideItsBracket) {
  struct Row {
    uint64_t host_tsc_ticks;
    bool accepted;
  };
  for (const Row& row :
       {Row{999, false}, Row{1000, true}, Row{2000, true}, Row{2001, false}, Row{0, false}}) {
    tsc_kvmclock pair = KvmPair();
    pair.pair_host_tsc_ticks = row.host_tsc_ticks;
    EXPECT_EQ(ReferenceFromKvm(pair, Trusted(), kKhz).has_value(), row.accepted)
        << row.host_tsc_ticks;
  }
  tsc_kvmclock backwards = KvmPair();
  std::swap(backwards.tsc_before_ticks, backwards.tsc_after_ticks);
  EXPECT_FALSE(ReferenceFromKvm(backwards, Trusted(), kKhz).has_value());
}

TEST(ReferenceFromKvmTest, RefusesAWallClockThatIsNone) {
  tsc_kvmclock pair = KvmPair();
  for (const uint64_t realtime_ns : {uint64_t{0}, uint64_t{1} << 63, ~uint64_t{0}}) {
    pair.pair_realtime_ns = realtime_ns;
    EXPECT_FALSE(ReferenceFromKvm(pair, Trusted(), kKhz).has_value()) << realtime_ns;
  }
}

}  // namespace
}  // namespace tsc_handoff::clock
