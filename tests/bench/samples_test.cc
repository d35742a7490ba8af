#include "tests/bench/samples.h"

#include <gtest/gtest.h>

namespace tsc_handoff::bench {
namespace {

Samples Descending(int count) {
  Samples samples;
  for (int i = count; i > 0; --i) samples.Add(i);
  return samples;
}

TEST(SamplesTest, PercentilesAreSamplesByNearestRank) {
  const Samples samples = Descending(200);
  EXPECT_EQ(samples.PercentileNs(0), 1);
  EXPECT_EQ(samples.PercentileNs(50), 100);
  EXPECT_EQ(samples.PercentileNs(99), 198);
  EXPECT_EQ(samples.PercentileNs(100), 200);
}

TEST(SamplesTest, P99OfFewSamplesIsTheLargest) {
  EXPECT_EQ(Descending(99).PercentileNs(99), 99);
  EXPECT_EQ(Descending(100).PercentileNs(99), 99);
  EXPECT_EQ(Descending(1).PercentileNs(99), 1);
}

TEST(SamplesTest, NoSamplesGiveZero) {
  EXPECT_EQ(Samples().PercentileNs(50), 0);
  EXPECT_EQ(Samples().ToJson()["mean_ns"], 0);
}

TEST(SamplesTest, SumIsTakenRoundByRound) {
  Samples a, b;
  a.Add(1);
  a.Add(100);
  b.Add(100);
  b.Add(1);
  EXPECT_EQ(Sum(a, b).PercentileNs(99), 101);
}

}  // namespace
}  // namespace tsc_handoff::bench
