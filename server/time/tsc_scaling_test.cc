#include "server/time/tsc_scaling.h"

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"

namespace tsc_handoff::time {
namespace {

constexpr uint32_t kVmx = 48;
constexpr uint32_t kSvm = 32;

TscCapability Scaling(uint32_t host_khz, uint32_t frac_bits) {
  return {.host_khz = host_khz, .can_scale = true, .frac_bits = frac_bits};
}

struct Row {
  uint32_t host_khz;
  uint32_t guest_khz;
  uint32_t frac_bits;
  uint64_t host_tsc_ticks;
  uint64_t ratio;
  uint64_t scaled_ticks;
};

// Ratios and products computed with arbitrary precision by another program.
constexpr Row kRows[] = {
    {3499912, 1749956, kVmx, 0x38d7ea4c68000, 0x800000000000, 0x1c6bf52634000},
    {2100000, 3500000, kVmx, 0x38d7ea4c68000, 0x1aaaaaaaaaaaa, 0x5ebd312a02aa8},
    {3500000, 2100000, kSvm, 0x38d7ea4c68000, 0x99999999, 0x221b262db5e4d},
    {2600000, 2599349, kSvm, 0x8000000000000000, 0xffef973e, 0x7ff7cb9f00000000},
    {2600000, 2600651, kVmx, 0xffffffffffffffff, 0x1001068c1bc08, 0x1068c1bc07fffe},  // wraps
    {2995200, 2095078, kVmx, 0x123456789abcdef0, 0xb31105dd2a9f, 0xcbbce5ad21b3c41},
    {2995200, 2095078, kSvm, 0x123456789abcdef0, 0xb31105dd, 0xcbbce5acf13578f},
    {1000000, 255999999, kSvm, 0xffffffffffffffff, 0xffffffef39, 0xffffef38ffffff00},
    {1000000, 4294967295, kVmx, 0xffffffffffffffff, 0x10c6f7a0a5269595, 0xf7a0a5269594ef39},
    {4294967295, 1, kSvm, 0xffffffffffffffff, 0x1, 0xffffffff},
    {3, 1, kVmx, 0xffffffffffffffff, 0x555555555555, 0x555555555554ffff},
};

TEST(TscScalingTest, RatioAndProductAreTruncatedAsKvmDoes) {
  for (const Row& row : kRows) {
    const auto scaling = TscScaling::For(Scaling(row.host_khz, row.frac_bits), row.guest_khz);
    ASSERT_TRUE(scaling.ok()) << scaling.status();
    EXPECT_TRUE(scaling->active());
    EXPECT_EQ(scaling->ratio(), row.ratio) << row.host_khz << " -> " << row.guest_khz;
    EXPECT_EQ(scaling->frac_bits(), row.frac_bits);
    EXPECT_EQ(scaling->Scale(row.host_tsc_ticks), row.scaled_ticks)
        << row.host_khz << " -> " << row.guest_khz;
    EXPECT_EQ(scaling->Scale(0), 0u);
  }
}

// (a * b) >> frac modulo 2^64 by schoolbook multiplication of 32-bit halves.
uint64_t PlainScale(uint64_t a, uint64_t b, uint32_t frac) {
  const uint64_t a_low = a & 0xffffffff;
  const uint64_t a_high = a >> 32;
  const uint64_t b_low = b & 0xffffffff;
  const uint64_t b_high = b >> 32;
  const uint64_t middle = a_high * b_low + ((a_low * b_low) >> 32);
  const uint64_t middle_low = (middle & 0xffffffff) + a_low * b_high;
  const uint64_t high = a_high * b_high + (middle >> 32) + (middle_low >> 32);
  return (high << (64 - frac)) | (a * b >> frac);
}

TEST(TscScalingTest, ScaleIsExactForAnyRatio) {
  std::mt19937_64 random(48);
  for (int i = 0; i < 20000; ++i) {
    const uint32_t frac_bits = i % 2 == 0 ? kVmx : kSvm;
    const auto host_khz = static_cast<uint32_t>(500'000 + random() % 6'000'000);
    const auto guest_khz = static_cast<uint32_t>(500'000 + random() % 6'000'000);
    const auto scaling = TscScaling::For(Scaling(host_khz, frac_bits), guest_khz);
    ASSERT_TRUE(scaling.ok()) << scaling.status();
    if (!scaling->active()) continue;
    // ratio = floor(guest * 2^frac / host), bit by bit.
    uint64_t ratio = guest_khz / host_khz;
    uint64_t rest = guest_khz % host_khz;
    for (uint32_t bit = 0; bit < frac_bits; ++bit) {
      rest *= 2;
      ratio = 2 * ratio + rest / host_khz;
      rest %= host_khz;
    }
    ASSERT_EQ(scaling->ratio(), ratio);
    const uint64_t host_tsc_ticks = random() >> (random() % 64);
    ASSERT_EQ(scaling->Scale(host_tsc_ticks), PlainScale(host_tsc_ticks, ratio, frac_bits));
  }
}

TEST(TscScalingTest, ByDefaultNothingIsScaled) {
  const TscScaling scaling;
  EXPECT_FALSE(scaling.active());
  EXPECT_EQ(scaling.ratio(), 0u);
  EXPECT_EQ(scaling.frac_bits(), 0u);
  EXPECT_EQ(scaling.Scale(~uint64_t{0}), ~uint64_t{0});
}

struct Tolerance {
  uint32_t host_khz;
  uint32_t lowest_khz;   // unscaled from here
  uint32_t highest_khz;  // to here, both included
};

// khz * (1,000,000 -+ 250) / 1,000,000, truncated.
constexpr Tolerance kTolerances[] = {
    {2600000, 2599350, 2600650}, {2599998, 2599348, 2600647}, {3499912, 3499037, 3500786},
    {2095078, 2094554, 2095601}, {1000000, 999750, 1000250},  {4001, 3999, 4002},
    {4000, 3999, 4001},          {3999, 3998, 3999},
};

TEST(TscScalingTest, WithinTwoHundredFiftyPpmKvmDoesNotScale) {
  for (const Tolerance& row : kTolerances) {
    EXPECT_FALSE(WithinKvmTolerance(row.host_khz, row.lowest_khz - 1)) << row.host_khz;
    EXPECT_TRUE(WithinKvmTolerance(row.host_khz, row.lowest_khz)) << row.host_khz;
    EXPECT_TRUE(WithinKvmTolerance(row.host_khz, row.host_khz)) << row.host_khz;
    EXPECT_TRUE(WithinKvmTolerance(row.host_khz, row.highest_khz)) << row.host_khz;
    EXPECT_FALSE(WithinKvmTolerance(row.host_khz, row.highest_khz + 1)) << row.host_khz;
    for (const uint32_t frac_bits : {kVmx, kSvm}) {
      const auto active = [&](uint32_t guest_khz) {
        return TscScaling::For(Scaling(row.host_khz, frac_bits), guest_khz).value().active();
      };
      EXPECT_TRUE(active(row.lowest_khz - 1));
      EXPECT_FALSE(active(row.lowest_khz));
      EXPECT_FALSE(active(row.highest_khz));
      EXPECT_TRUE(active(row.highest_khz + 1));
    }
  }
}

TEST(TscScalingTest, WithoutScalingOnlyTheToleranceWorks) {
  for (const Tolerance& row : kTolerances) {
    const TscCapability host = {.host_khz = row.host_khz};
    EXPECT_TRUE(TscScaling::For(host, row.lowest_khz).ok());
    EXPECT_TRUE(TscScaling::For(host, row.highest_khz).ok());
    EXPECT_EQ(ReasonOf(TscScaling::For(host, row.lowest_khz - 1).status()),
              Reason::kTscKhzUnsupported);
    // KVM would accept this one by catch-up, in which the guest's TSC follows the wall clock in
    // jumps.
    EXPECT_EQ(ReasonOf(TscScaling::For(host, row.highest_khz + 1).status()),
              Reason::kTscKhzUnsupported);
  }
}

TEST(TscScalingTest, RatiosBeyondTheHardwareAreRefused) {
  // SVM: 40 bits and not all of them set. 256 times the host's rate is 2^40.
  EXPECT_TRUE(TscScaling::For(Scaling(1'000'000, kSvm), 255'999'999).ok());
  EXPECT_FALSE(TscScaling::For(Scaling(1'000'000, kSvm), 256'000'000).ok());
  EXPECT_TRUE(TscScaling::For(Scaling(1'000'000, kVmx), 256'000'000).ok());
  // VMX: 64 bits and not all of them set.
  EXPECT_TRUE(TscScaling::For(Scaling(65'537, kVmx), 4'294'967'295).ok());
  EXPECT_FALSE(TscScaling::For(Scaling(65'535, kVmx), 4'294'967'295).ok());
}

TEST(TscScalingTest, UnknownHostsAreRefused) {
  for (const TscCapability& host :
       {TscCapability{}, Scaling(0, kVmx), Scaling(2'000'000, 0), Scaling(2'000'000, 47)}) {
    EXPECT_EQ(ReasonOf(TscScaling::For(host, 3'000'000).status()), Reason::kTscKhzUnsupported);
  }
  EXPECT_EQ(ReasonOf(TscScaling::For(Scaling(2'000'000, kVmx), 0).status()),
            Reason::kTscKhzUnsupported);
  EXPECT_TRUE(TscScaling::For(Scaling(2'000'000, 0), 2'000'000).ok())
      << "the fraction bits do not matter then";
}

TEST(TscScalingTest, TheRefusalNamesBothFrequenciesAndWhy) {
  const absl::Status plain = TscScaling::For({.host_khz = 2'600'000}, 2'100'000).status();
  EXPECT_EQ(
      MetadataOf(plain),
      (Metadata{{"guest_khz", "2100000"}, {"host_khz", "2600000"}, {"tsc_scaling", "false"}}));
  EXPECT_NE(absl::StrCat(plain.message()).find("no TSC scaling"), std::string::npos);
  const absl::Status beyond = TscScaling::For(Scaling(1'000'000, kSvm), 256'000'000).status();
  EXPECT_NE(absl::StrCat(beyond.message()).find("beyond what its hardware scales"),
            std::string::npos);
  const absl::Status format = TscScaling::For(Scaling(1'000'000, 0), 2'000'000).status();
  EXPECT_NE(absl::StrCat(format.message()).find("not known"), std::string::npos);
}

}  // namespace
}  // namespace tsc_handoff::time
