#include "client/tscctl/top/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tsc_handoff::tscctl {
namespace {

using ::testing::ElementsAre;

TEST(TextTest, WhatAgentsSayCannotSteerATerminal) {
  EXPECT_EQ(AsciiText("a\x1b[2Jb\nc\td"), "a?[2Jb c d");
  EXPECT_EQ(AsciiText("h\xc3\xb6st"), "h?st");
}

TEST(TextTest, WidthCountsCharacters) {
  EXPECT_EQ(TextWidth(""), 0u);
  EXPECT_EQ(TextWidth("abc"), 3u);
  EXPECT_EQ(TextWidth("─…▲"), 3u);
}

TEST(TextTest, FitsExactly) {
  EXPECT_EQ(FitLeft("abc", 5, "~"), "abc  ");
  EXPECT_EQ(FitRight("abc", 5, "~"), "  abc");
  EXPECT_EQ(FitLeft("abcdef", 4, "~"), "abc~");
  EXPECT_EQ(FitRight("abcdef", 4, "…"), "abc…");
  EXPECT_EQ(FitLeft("▲▲▲", 2, "…"), "▲…");
  EXPECT_EQ(FitLeft("abc", 0, "~"), "");
}

TEST(TextTest, WrapsAtBlanks) {
  EXPECT_THAT(Wrapped("one two three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(Wrapped("abcdefgh ij", 3), ElementsAre("abc", "def", "gh", "ij"));
  EXPECT_THAT(Wrapped("", 3), ElementsAre(""));
}

TEST(TextTest, DurationsHaveThreeDigitsAndAUnit) {
  const struct {
    uint64_t ns;
    const char* text;
  } rows[] = {{0, "0 ns"},
              {999, "999 ns"},
              {1'000, "1.00 us"},
              {40'300, "40.3 us"},
              {999'499, "999 us"},
              {999'999, "1.00 ms"},
              {12'340'000, "12.3 ms"},
              {1'200'000'000, "1.20 s"},
              {9'996'000'000, "10.0 s"},
              {99'900'000'000, "99.9 s"},
              {100'000'000'000, "1m40s"},
              {3'599'999'000'000, "59m59s"},
              {3'600'000'000'000, "1h00m"},
              {86'400'000'000'000, "1d00h"},
              {UINT64_MAX, "213503d23h"}};
  for (const auto& row : rows) EXPECT_EQ(ShortNs(row.ns), row.text) << row.ns;
}

}  // namespace
}  // namespace tsc_handoff::tscctl
