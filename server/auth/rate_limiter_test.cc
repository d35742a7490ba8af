#include "server/auth/rate_limiter.h"

#include <gtest/gtest.h>

namespace tsc_handoff::auth {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(RateLimiter, LetsASecondsRequestsThroughAtOnceAndThenSoManyASecond) {
  RateLimiter limiter(10);
  int64_t now = 5 * kSecond;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(limiter.Take("a", now), 0) << i;
  const int64_t wait = limiter.Take("a", now);
  EXPECT_EQ(wait, kSecond / 10);
  EXPECT_GT(limiter.Take("a", now + wait - 1000), 0);
  EXPECT_EQ(limiter.Take("a", now + wait), 0);
  EXPECT_GT(limiter.Take("a", now + wait), 0);
  now += 100 * kSecond;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(limiter.Take("a", now), 0) << "not more than a second's";
  EXPECT_GT(limiter.Take("a", now), 0);
}

TEST(RateLimiter, OneDoesNotHinderAnother) {
  RateLimiter limiter(1);
  EXPECT_EQ(limiter.Take("a", 0), 0);
  EXPECT_GT(limiter.Take("a", 0), 0);
  EXPECT_EQ(limiter.Take("b", 0), 0);
}

TEST(RateLimiter, ForgetsWhoWasSilentForLongestWhenThereAreTooMany) {
  RateLimiter limiter(1);
  EXPECT_EQ(limiter.Take("old", 0), 0);
  EXPECT_EQ(limiter.Take("newer", 1), 0);
  for (size_t i = 2; i < RateLimiter::kMaxIdentities + 1; ++i)
    EXPECT_EQ(limiter.Take(std::to_string(i), static_cast<int64_t>(i)), 0);
  EXPECT_GT(limiter.Take("newer", 2000), 0) << "it is remembered";
  EXPECT_EQ(limiter.Take("old", 2000), 0);
}

TEST(RateLimiter, ANewRateHoldsAtOnce) {
  RateLimiter limiter(1);
  EXPECT_EQ(limiter.Take("a", 0), 0);
  EXPECT_GT(limiter.Take("a", kSecond / 2), 0);
  limiter.set_per_second(1000);
  EXPECT_EQ(limiter.per_second(), 1000u);
  EXPECT_EQ(limiter.Take("a", kSecond / 2 + kSecond / 100), 0);
}

}  // namespace
}  // namespace tsc_handoff::auth
