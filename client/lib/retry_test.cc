#include "client/lib/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tsc_handoff::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Time that passes only by sleeping.
class RetryTest : public ::testing::Test {
 protected:
  absl::Status Run(const RetryPolicy& policy, absl::Duration timeout, int failures) {
    const TimeSource time{.steady_now = [this] { return now_; },
                          .sleep =
                              [this](absl::Duration duration) {
                                slept_.push_back(duration);
                                now_ += duration;
                                return patient_;
                              },
                          .random = [this] { return random_; }};
    return CallWithRetry(
        policy, time, timeout,
        [](const absl::Status& status) { return absl::IsUnavailable(status); },
        [&](absl::Duration left) {
          left_.push_back(left);
          now_ += call_takes_;
          if (static_cast<int>(left_.size()) > failures) return absl::OkStatus();
          return absl::Status(code_, "failed");
        });
  }

  absl::Duration now_ = absl::Seconds(100);
  absl::Duration call_takes_ = absl::ZeroDuration();
  double random_ = 0.0;
  bool patient_ = true;
  absl::StatusCode code_ = absl::StatusCode::kUnavailable;
  std::vector<absl::Duration> slept_;
  std::vector<absl::Duration> left_;
};

constexpr RetryPolicy kFive{.max_attempts = 5,
                            .initial_backoff = absl::Milliseconds(100),
                            .max_backoff = absl::Milliseconds(250),
                            .jitter = 0.5};

TEST_F(RetryTest, SuccessNeedsNoSleep) {
  EXPECT_TRUE(Run(kFive, absl::Seconds(5), 0).ok());
  EXPECT_THAT(slept_, IsEmpty());
}

TEST_F(RetryTest, BackoffDoublesUpToItsLimit) {
  EXPECT_TRUE(Run(kFive, absl::Seconds(5), 4).ok());
  EXPECT_THAT(slept_, ElementsAre(absl::Milliseconds(100), absl::Milliseconds(200),
                                  absl::Milliseconds(250), absl::Milliseconds(250)));
}

TEST_F(RetryTest, JitterShortensEachBackoff) {
  random_ = 0.5;
  EXPECT_TRUE(Run(kFive, absl::Seconds(5), 2).ok());
  EXPECT_THAT(slept_, ElementsAre(absl::Milliseconds(75), absl::Milliseconds(150)));
}

TEST_F(RetryTest, GivesUpAfterMaxAttempts) {
  EXPECT_TRUE(absl::IsUnavailable(Run(kFive, absl::Seconds(5), 100)));
  EXPECT_EQ(left_.size(), 5u);
}

TEST_F(RetryTest, EachAttemptGetsTheTimeThatIsLeft) {
  call_takes_ = absl::Milliseconds(300);
  EXPECT_TRUE(Run(kFive, absl::Seconds(1), 1).ok());
  EXPECT_THAT(left_, ElementsAre(absl::Seconds(1), absl::Milliseconds(600)));
}

TEST_F(RetryTest, DoesNotSleepPastTheDeadline) {
  call_takes_ = absl::Milliseconds(60);
  EXPECT_TRUE(absl::IsUnavailable(Run(kFive, absl::Milliseconds(150), 100)));
  EXPECT_THAT(slept_, IsEmpty());
}

TEST_F(RetryTest, OtherErrorsAreFinal) {
  code_ = absl::StatusCode::kFailedPrecondition;
  EXPECT_TRUE(absl::IsFailedPrecondition(Run(kFive, absl::Seconds(5), 1)));
  EXPECT_EQ(left_.size(), 1u);
}

TEST_F(RetryTest, AnInterruptedSleepEndsIt) {
  patient_ = false;
  EXPECT_TRUE(absl::IsUnavailable(Run(kFive, absl::Seconds(5), 1)));
  EXPECT_EQ(left_.size(), 1u);
}

TEST(SystemTimeTest, RandomIsInRangeAndTimeDoesNotGoBack) {
  const TimeSource time = SystemTime();
  absl::Duration last = time.steady_now();
  for (int i = 0; i < 1000; ++i) {
    const double value = time.random();
    EXPECT_GE(value, 0.0);
    EXPECT_LT(value, 1.0);
    EXPECT_GE(time.steady_now(), last);
    last = time.steady_now();
  }
}

}  // namespace
}  // namespace tsc_handoff::client
