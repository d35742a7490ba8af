#include "server/clock/kernel_update_watch.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tsc_handoff::clock {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;
constexpr int64_t kLimitUs = 16'000'000;

// The kernel's NTP state as time goes by: maxerror grows at each turn of a second, and its PLL
// works the offset off.
class Kernel {
 public:
  explicit Kernel(int64_t max_error_us = 10'000) {
    values_.maxerror = max_error_us;
    values_.esterror = 100;
    values_.tick = 10'000;
    values_.freq = 123'456;
    values_.status = STA_PLL | STA_NANO;
  }

  void AdvanceTo(int64_t now_ns) {
    for (; second_ < now_ns / kSecond; ++second_) {
      values_.maxerror = std::min<long>(values_.maxerror + 500, kLimitUs);
      if (values_.maxerror == kLimitUs) values_.status |= STA_UNSYNC;
      values_.offset -= values_.offset / 16;
    }
  }
  timex& values() { return values_; }

 private:
  timex values_ = {};
  int64_t second_ = 0;
};

TEST(KernelUpdateWatchTest, TheFirstLookKnowsHowOldTheLastUpdateMayBe) {
  Kernel kernel(1500);
  const KernelUpdates updates = KernelUpdateWatch().Note(kernel.values(), 70 * kSecond);
  EXPECT_EQ(updates.since_ns, 3 * kSecond) << "1500 us at 500 us a second";
  EXPECT_EQ(updates.interval_ns, 0);
}

TEST(KernelUpdateWatchTest, AgeGoesOnFromTheFirstLook) {
  Kernel kernel(1500);
  KernelUpdateWatch watch;
  const int64_t id = watch.Note(kernel.values(), 0).id;
  kernel.AdvanceTo(5 * kSecond);
  const KernelUpdates updates = watch.Note(kernel.values(), 5 * kSecond);
  EXPECT_EQ(updates.id, id);
  EXPECT_EQ(updates.since_ns, 8 * kSecond);
}

// What the kernel does by itself must never look like a daemon: for all of the 8.9 hours, however
// irregularly it is asked, and however late the reading comes after the time that is stated for it.
TEST(KernelUpdateWatchTest, ADeadDaemonNeverSeemsToWork) {
  for (const uint32_t seed : {1u, 2u, 3u, 4u, 5u}) {
    std::mt19937_64 random(seed);
    Kernel kernel(500 + static_cast<int64_t>(random() % 100'000));
    kernel.values().offset = 400'000;  // worked off by the PLL long after
    KernelUpdateWatch watch;
    int64_t now_ns = static_cast<int64_t>(random() % kSecond);
    kernel.AdvanceTo(now_ns);
    const int64_t id = watch.Note(kernel.values(), now_ns).id;
    while (now_ns < 9 * 3600 * kSecond) {
      const int64_t step_ns = random() % 100 == 0 ? 100 * kSecond : 2 * kSecond;
      now_ns += static_cast<int64_t>(random() % static_cast<uint64_t>(step_ns));
      kernel.AdvanceTo(now_ns + static_cast<int64_t>(random() % (300 * kMs)));
      const KernelUpdates updates = watch.Note(kernel.values(), now_ns);
      ASSERT_EQ(updates.id, id) << "seed " << seed << ", at " << now_ns / kSecond << " s";
    }
    EXPECT_EQ(kernel.values().maxerror, kLimitUs) << "the blind spot has been crossed";
  }
}

struct Daemon {
  const char* name;
  int64_t period_s;
  std::vector<int64_t> max_errors_us;  // what it states, in turns
};

class UpdatesOfTest : public testing::TestWithParam<Daemon> {};

TEST_P(UpdatesOfTest, EachIsSeenAndTheLastIsNotForgotten) {
  const Daemon& daemon = GetParam();
  Kernel kernel;
  KernelUpdateWatch watch;
  watch.Note(kernel.values(), 0);
  KernelUpdates updates;
  const int64_t alive_s = 40 * daemon.period_s;
  for (int64_t second = 1; second <= alive_s; ++second) {
    const int64_t now_ns = second * kSecond + 300 * kMs;
    kernel.AdvanceTo(now_ns);
    if (second % daemon.period_s == 0) {
      const auto turn = static_cast<size_t>(second / daemon.period_s);
      kernel.values().maxerror = daemon.max_errors_us[turn % daemon.max_errors_us.size()];
    }
    updates = watch.Note(kernel.values(), now_ns);
    // Most are seen at once; one that states what the kernel would have by itself, a little later.
    if (updates.id > 0) {
      ASSERT_LE(updates.since_ns, (daemon.period_s + 2) * kSecond) << "at " << second << " s";
    }
  }
  EXPECT_GE(updates.id, alive_s / (daemon.period_s + 2));
  EXPECT_LE(updates.id, alive_s / daemon.period_s);
  EXPECT_GE(updates.interval_ns, daemon.period_s * kSecond);
  EXPECT_LE(updates.interval_ns, (daemon.period_s + 2) * kSecond);
  const int64_t id = updates.id;
  for (int64_t second = alive_s + 1; second <= alive_s + 600; ++second) {
    kernel.AdvanceTo(second * kSecond + 300 * kMs);
    updates = watch.Note(kernel.values(), second * kSecond + 300 * kMs);
  }
  EXPECT_LE(updates.id, id + 1) << "it has died";
  EXPECT_GE(updates.since_ns, 590 * kSecond);
}

INSTANTIATE_TEST_SUITE_P(
    Daemons, UpdatesOfTest,
    testing::Values(Daemon{"StatesWhatItMeasures", 64, {1234, 2345, 999, 5871}},
                    Daemon{"AlwaysStatesTheSame", 16, {1000}},
                    Daemon{"StatesTheSameEverySecond", 1, {16'000}},
                    Daemon{"StatesMoreAndMore", 32, {20'000, 50'001, 90'000, 130'003}},
                    Daemon{"Seldom", 1024, {30'000, 31'000}}),
    [](const auto& row) { return std::string(row.param.name); });

struct Change {
  const char* name;
  void (*apply)(timex& values);
  bool renewed;
};

class ChangeTest : public testing::TestWithParam<Change> {};

TEST_P(ChangeTest, VouchesForTheClockOnlyWhereTheErrorIsRenewed) {
  const Change& change = GetParam();
  Kernel kernel;
  kernel.values().offset = 1000;
  KernelUpdateWatch watch;
  const int64_t id = watch.Note(kernel.values(), 0).id;
  kernel.AdvanceTo(kSecond);
  kernel.values().offset = 1000;
  change.apply(kernel.values());
  const KernelUpdates updates = watch.Note(kernel.values(), kSecond);
  EXPECT_EQ(updates.id != id, change.renewed);
  if (change.renewed) {
    EXPECT_EQ(updates.since_ns, kSecond) << "at any time since the last look";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, ChangeTest,
    testing::Values(Change{"Nothing", [](timex&) {}, false},
                    Change{"MaxErrorFell", [](timex& v) { v.maxerror -= 501; }, true},
                    Change{"MaxErrorRoseByMore", [](timex& v) { v.maxerror += 1500; }, true},
                    Change{"MaxErrorRoseOddly", [](timex& v) { v.maxerror += 1; }, true},
                    Change{"OneTurnLess", [](timex& v) { v.maxerror -= 500; }, false},
                    Change{"OneTurnMore", [](timex& v) { v.maxerror += 500; }, false},
                    Change{"Frequency", [](timex& v) { v.freq += 1; }, false},
                    Change{"Tick", [](timex& v) { v.tick -= 1; }, false},
                    Change{"EstimatedError", [](timex& v) { v.esterror += 1; }, false},
                    Change{"StatusByADaemon", [](timex& v) { v.status |= STA_INS; }, false},
                    Change{"StatusByTheKernel",
                           [](timex& v) { v.status |= STA_UNSYNC | STA_PPSSIGNAL; }, false},
                    Change{"OffsetGrew", [](timex& v) { v.offset = 1001; }, false},
                    Change{"OffsetChangedSides", [](timex& v) { v.offset = -1; }, false},
                    Change{"OffsetShrank", [](timex& v) { v.offset = 900; }, false},
                    Change{"OffsetGone", [](timex& v) { v.offset = 0; }, false},
                    Change{"MaxErrorAtItsLimit", [](timex& v) { v.maxerror = kLimitUs; }, false}),
    [](const auto& row) { return std::string(row.param.name); });

// chronyd changes the frequency again when a slew ends; it is at work then, but its words on the
// error are not that frequent.
TEST(KernelUpdateWatchTest, OtherChangesAreNoRenewal) {
  Kernel kernel;
  KernelUpdateWatch watch;
  watch.Note(kernel.values(), 0);
  KernelUpdates updates;
  for (int64_t second = 1; second <= 200; ++second) {
    kernel.AdvanceTo(second * kSecond);
    if (second % 64 == 0) kernel.values().maxerror = 7001;
    if (second % 64 == 3) kernel.values().freq += 5;
    updates = watch.Note(kernel.values(), second * kSecond);
  }
  EXPECT_EQ(updates.interval_ns, 64 * kSecond);
  EXPECT_EQ(updates.since_ns, (200 - 191) * kSecond) << "renewed after the look at 191 s";
}

// A daemon that states 100 us every second is seen by what does not grow, late; somebody who steps
// the clock in between shall not be taken for it.
TEST(KernelUpdateWatchTest, ARenewalThatIsSeenLateIsAsOldAsItMayBe) {
  timex values = {};
  values.maxerror = 100;
  KernelUpdateWatch watch;
  int64_t id = watch.Note(values, 0).id;
  int64_t seen_ns = 0;
  for (int64_t now_ns = kSecond / 4; seen_ns == 0; now_ns += kSecond / 4) {
    ASSERT_LT(now_ns, 10 * kSecond) << "never seen";
    const KernelUpdates updates = watch.Note(values, now_ns);
    if (updates.id == id) continue;
    seen_ns = now_ns;
    EXPECT_EQ(updates.since_ns, seen_ns) << "it may have been right after the first look";
  }
  EXPECT_GE(seen_ns, 2 * kSecond);
}

TEST(KernelUpdateWatchTest, NoGrowthAtTheLimitMeansNothing) {
  Kernel kernel(kLimitUs);
  KernelUpdateWatch watch;
  const int64_t id = watch.Note(kernel.values(), 0).id;
  EXPECT_EQ(watch.Note(kernel.values(), 1000 * kSecond).id, id);
  kernel.values().maxerror = 1000;
  EXPECT_EQ(watch.Note(kernel.values(), 1001 * kSecond).id, id + 1) << "a daemon has come";
}

TEST(KernelUpdateWatchTest, NonsenseOverflowsNothing) {
  KernelUpdateWatch watch;
  for (const long value : {std::numeric_limits<long>::max(), std::numeric_limits<long>::min(), -1l,
                           0l, std::numeric_limits<long>::max()}) {
    timex values = {};
    values.maxerror = value;
    values.offset = value;
    EXPECT_GE(watch.Note(values, 50'000 * kSecond).since_ns, 0);
  }
}

}  // namespace
}  // namespace tsc_handoff::clock
