#include "client/tscctl/top/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/tscctl/top/top_testing.h"

namespace tsc_handoff::tscctl {
namespace {

using ::testing::ElementsAre;

TopTable WithRows(size_t count) {
  TopTable table;
  table.columns = {{.title = "NAME"},
                   {.title = "VALUE", .right = true, .leave_out = 2},
                   {.title = "WHERE", .leave_out = 1},
                   {.title = "NOTE", .stretches = true}};
  for (size_t i = 0; i < count; ++i) {
    table.rows.push_back(
        {.cells = {{.text = "abcdef"}, {.text = "1"}, {.text = "here"}, {.text = "so it is"}}});
  }
  return table;
}

Pane PaneWith(const TopTable& table) {
  Pane pane;
  pane.title = "Things";
  pane.table = &table;
  pane.unfiltered_rows = table.rows.size();
  return pane;
}

TEST(LayoutTest, ColumnsAreLeftOutFromTheLeastImportantOn) {
  const TopTable table = WithRows(1);
  EXPECT_THAT(ColumnWidths(table, 80), ElementsAre(6, 6, 6, 54));
  EXPECT_THAT(ColumnWidths(table, 34), ElementsAre(6, 6, 6, 8));
  EXPECT_THAT(ColumnWidths(table, 33), ElementsAre(6, 0, 6, 15));
  EXPECT_THAT(ColumnWidths(table, 20), ElementsAre(6, 0, 0, 10));
  EXPECT_THAT(ColumnWidths(table, 5), ElementsAre(6, 0, 0, 8));
}

TEST(LayoutTest, AShortScreenIsTheActivePanesAlone) {
  const TopTable rows = WithRows(50);
  const std::vector<Pane> panes = {PaneWith(rows), PaneWith(rows), PaneWith(rows)};
  EXPECT_THAT(ShareHeight(panes, 1, 8), ElementsAre(0, 8, 0));
}

TEST(LayoutTest, PanesShareAndTheActiveOneTakesWhatOthersLeave) {
  const TopTable none, two = WithRows(2), many = WithRows(50);
  EXPECT_THAT(ShareHeight({PaneWith(two), PaneWith(none), PaneWith(many)}, 2, 22),
              ElementsAre(4, 1, 17));
  EXPECT_THAT(ShareHeight({PaneWith(many), PaneWith(many), PaneWith(many)}, 2, 22),
              ElementsAre(7, 7, 8));
  EXPECT_THAT(ShareHeight({PaneWith(two), PaneWith(many), PaneWith(two)}, 0, 22),
              ElementsAre(4, 14, 4));
}

TEST(LayoutTest, ScrollsNoMoreThanNecessary) {
  EXPECT_EQ(ScrolledTo(0, 4, 5, 20), 0u);
  EXPECT_EQ(ScrolledTo(0, 5, 5, 20), 1u);
  EXPECT_EQ(ScrolledTo(10, 3, 5, 20), 3u);
  EXPECT_EQ(ScrolledTo(18, 19, 5, 20), 15u);
  EXPECT_EQ(ScrolledTo(7, std::nullopt, 5, 3), 0u);
  EXPECT_EQ(ScrolledTo(7, 9, 0, 20), 0u);
}

TEST(LayoutTest, LinesAreExactlyAsWideAsTheScreen) {
  const Line line = FitLine({{.text = "abc"}, {.text = "defgh"}}, 6, Glyphs());
  EXPECT_EQ(TextOf(line), "abcde~");
  EXPECT_EQ(FitLine({{.text = "ab"}}, 4, Glyphs())[1].text, "  ");
}

TEST(LayoutTest, WhatIsOverIsFaintButAnAlarmStaysOne) {
  TopTable table;
  table.columns = {{.title = "NAME"}, {.title = "NOTE", .stretches = true}};
  table.rows = {
      {.severity = Severity::kBad,
       .past = true,
       .cells = {{.text = "a", .look = Look::kBold}, {.text = "bad", .look = Look::kBad}}}};
  const Line row = DrawPane(PaneWith(table), true, 40, 3, Glyphs())[2];
  EXPECT_EQ(row[0], (Span{.text = "!", .look = Look::kBad}));
  EXPECT_EQ(row[2].look, Look::kDim);
  EXPECT_EQ(row[4].look, Look::kBad);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
