#include "client/tscctl/format.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <sstream>

namespace tsc_handoff::tscctl {
namespace {

TEST(FormatTest, ThousandsAreSeparated) {
  EXPECT_EQ(Thousands(0), "0");
  EXPECT_EQ(Thousands(999), "999");
  EXPECT_EQ(Thousands(1000), "1,000");
  EXPECT_EQ(Thousands(1234567), "1,234,567");
  EXPECT_EQ(Thousands(std::numeric_limits<uint64_t>::max()), "18,446,744,073,709,551,615");
  EXPECT_EQ(SignedThousands(-1000), "-1,000");
  EXPECT_EQ(SignedThousands(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(FormatTest, DurationsGetTheirUnit) {
  EXPECT_EQ(HumanNs(0), "0 ns");
  EXPECT_EQ(HumanNs(999), "999 ns");
  EXPECT_EQ(HumanNs(-1500), "-1.5 us");
  EXPECT_EQ(HumanNs(40'300), "40.3 us");
  EXPECT_EQ(HumanNs(50'000'000), "50.000 ms");
  EXPECT_EQ(HumanNs(12'500'000'000), "12.500 s");
  EXPECT_EQ(HumanNs(3'723'000'000'000), "1h2m3s");
}

TEST(FormatTest, DurationsOfFieldsKeepTheirSignAndAnySize) {
  EXPECT_EQ(SignedNs(1500), "+1.5 us");
  EXPECT_EQ(SignedNs(0), "0 ns");
  EXPECT_EQ(SignedNs(-300'000'000), "-300.000 ms");
  EXPECT_EQ(PlusMinus(40'300), "+-40.3 us");
  EXPECT_EQ(HumanUnsignedNs(1'200'000'000), "1.200 s");
  EXPECT_EQ(PlusMinus(std::numeric_limits<uint64_t>::max()), "+-18,446,744,073,709,551,615 ns");
}

TEST(FormatTest, TimeIsUtc) {
  EXPECT_EQ(HumanTime(1'700'000'000'123'000'000), "2023-11-14 22:13:20.123 UTC");
  // Beyond what signed nanoseconds hold.
  EXPECT_EQ(HumanTime(std::numeric_limits<uint64_t>::max()), "2554-07-21 23:34:33.709 UTC");
}

TEST(FormatTest, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[31mb\nc\x07\x7f"), "a?[31mb c??");
  EXPECT_EQ(Printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(Printable("\xe2\x82\xac \xf0\x9f\x98\x80"), "\xe2\x82\xac \xf0\x9f\x98\x80");
  // CSI as one character, with which a terminal clears its screen.
  EXPECT_EQ(Printable("a\xc2\x9b"
                      "2J"),
            "a?2J");
  EXPECT_EQ(Printable("a\x9b"
                      "2J"),
            "a?2J");
  // Half a character, one that is longer than it has to be, half a UTF-16 pair, too large a number.
  EXPECT_EQ(Printable("\xe2\x82"), "??");
  EXPECT_EQ(Printable("\xc0\xaf"), "??");
  EXPECT_EQ(Printable("\xed\xa0\x80"), "???");
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "????");
}

TEST(FormatTest, TableAlignsAndLeavesNoBlanksBehind) {
  Table table({{"NAME"}, {"N", Table::Align::kRight}, {"LAST"}});
  table.Add({"a", "1", "x"});
  table.Add({"longer", "1,000", "y"});
  std::ostringstream out;
  table.Print(Palette(false), out);
  EXPECT_EQ(out.str(),
            "NAME        N  LAST\n"
            "a           1  x\n"
            "longer  1,000  y\n");
}

TEST(FormatTest, PaletteIsOffOrOn) {
  EXPECT_EQ(Palette(false).Red("x"), "x");
  EXPECT_EQ(Palette(true).Red("x"), "\x1b[1;31mx\x1b[0m");
}

}  // namespace
}  // namespace tsc_handoff::tscctl
