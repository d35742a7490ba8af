#include "client/tscctl/clock_comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "client/lib/rpc_error.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using Verdict = v1::CompareClocksResponse;
using ::testing::HasSubstr;

constexpr uint64_t kMaxNs = std::numeric_limits<uint64_t>::max();
constexpr int64_t kLowestNs = std::numeric_limits<int64_t>::min();

struct Figures {
  int64_t offset_ns;
  uint64_t offset_error_ns;
  uint64_t local_bound_ns;
  uint64_t peer_bound_ns;
};

ClockComparison Comparison(const Figures& figures, Verdict::Verdict verdict) {
  ClockComparison comparison{{"h1:1", "node1"}, {"h2:2", "node2"}, "10.0.0.2:2", {}};
  comparison.answer.mutable_probe()->set_offset_ns(figures.offset_ns);
  comparison.answer.mutable_probe()->set_offset_error_ns(figures.offset_error_ns);
  comparison.answer.mutable_local()->set_trusted(true);
  comparison.answer.mutable_local()->set_error_bound_ns(figures.local_bound_ns);
  comparison.answer.mutable_peer()->set_trusted(true);
  comparison.answer.mutable_peer()->set_error_bound_ns(figures.peer_bound_ns);
  comparison.answer.set_verdict(verdict);
  return comparison;
}

TEST(ClockComparisonTest, ExcessIsWhatNeitherClaimsNorMeasurementExplain) {
  const struct {
    Figures figures;
    uint64_t allowed_ns;
    uint64_t excess_ns;
  } kRows[] = {
      {{0, 0, 0, 0}, 0, 0},
      {{60, 10, 20, 30}, 60, 0},
      {{61, 10, 20, 30}, 60, 1},
      {{-61, 10, 20, 30}, 60, 1},
      {{kLowestNs, 1, 0, 0}, 1, (uint64_t{1} << 63) - 1},
      {{kLowestNs, kMaxNs, kMaxNs, kMaxNs}, kMaxNs, 0},
  };
  for (const auto& row : kRows) {
    const ClockComparison comparison = Comparison(row.figures, Verdict::VERDICT_DISAGREE);
    EXPECT_EQ(AllowedDifferenceNs(comparison.answer), row.allowed_ns) << row.figures.offset_ns;
    EXPECT_EQ(ExcessNs(comparison.answer), row.excess_ns) << row.figures.offset_ns;
  }
}

TEST(ClockComparisonTest, HostsAreCalledByNameUnlessThatWouldConfuseThem) {
  const struct {
    const char* local_name;
    const char* peer_name;
    const char* local;
    const char* peer;
  } kRows[] = {
      {"node1", "node2", "node1", "node2"},
      {"localhost", "localhost", "h1:1", "h2:2"},
      {"node1", "", "node1", "h2:2"},
      {"", "", "h1:1", "h2:2"},
  };
  for (const auto& row : kRows) {
    const Labels labels = LabelsOf({{"h1:1", row.local_name}, {"h2:2", row.peer_name}, "", {}});
    EXPECT_EQ(labels.local, row.local);
    EXPECT_EQ(labels.peer, row.peer);
  }
}

TEST(ClockComparisonTest, EveryVerdictIsASentenceAndAStatus) {
  const Figures apart = {300'060, 10, 20, 30};
  const struct {
    Verdict::Verdict verdict;
    const char* text;
    v1::ErrorReason reason;
    const char* message;
  } kRows[] = {
      {Verdict::VERDICT_DISAGREE, "at least 300.0 us further apart", v1::CLOCKS_DISAGREE,
       "the clocks of node1 and node2 disagree"},
      {Verdict::VERDICT_UNSPECIFIED, "No verdict that this tscctl knows",
       v1::ERROR_REASON_UNSPECIFIED, "does not know"},
  };
  for (const auto& row : kRows) {
    const ClockComparison comparison = Comparison(apart, row.verdict);
    EXPECT_THAT(VerdictText(comparison), HasSubstr(row.text));
    const absl::Status status = VerdictStatus(comparison);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(client::ReasonOf(status), row.reason);
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.message));
    EXPECT_NE(client::NextStepOf(status), "");
  }
  const ClockComparison agreed = Comparison({1, 10, 20, 30}, Verdict::VERDICT_AGREE);
  EXPECT_TRUE(VerdictStatus(agreed).ok());
  EXPECT_THAT(VerdictText(agreed), HasSubstr("The clocks agree"));
}

TEST(ClockComparisonTest, ADisagreementWhoseFiguresAreRoundedNamesNone) {
  const std::string text = VerdictText(Comparison({60, 10, 20, 30}, Verdict::VERDICT_DISAGREE));
  EXPECT_THAT(text, HasSubstr("they are further apart than both claims allow"));
}

TEST(ClockComparisonTest, WhoClaimsNothingIsNamed) {
  const struct {
    bool local;
    bool peer;
    const char* named;
  } kRows[] = {{false, true, "node1"}, {true, false, "node2"}, {false, false, "node1 and node2"}};
  for (const auto& row : kRows) {
    ClockComparison comparison = Comparison({}, Verdict::VERDICT_NO_CLAIM);
    comparison.answer.mutable_local()->set_trusted(row.local);
    comparison.answer.mutable_peer()->set_trusted(row.peer);
    EXPECT_THAT(VerdictText(comparison), HasSubstr(std::string("No verdict: ") + row.named + " "));
    const absl::Status status = VerdictStatus(comparison);
    EXPECT_EQ(client::ReasonOf(status), v1::CLOCK_UNTRUSTED);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("of ") + row.named + " is"));
  }
}

}  // namespace
}  // namespace tsc_handoff::tscctl
