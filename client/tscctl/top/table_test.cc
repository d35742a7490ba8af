#include "client/tscctl/top/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tsc_handoff::tscctl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Row MakeRow(const std::string& name, std::optional<double> number,
            Severity severity = Severity::kNormal) {
  Row row{.id = {.name = name}, .severity = severity};
  row.cells.push_back({.text = name});
  row.cells.push_back(
      {.text = number.has_value() ? std::to_string(*number) : "-", .number = number});
  return row;
}

TopTable Some() {
  TopTable table;
  table.columns = {{.title = "NAME"}, {.title = "NUMBER", .right = true}};
  table.rows = {MakeRow("web-2", 10), MakeRow("db-1", std::nullopt, Severity::kBad),
                MakeRow("web-1", 9), MakeRow("db-2", 11, Severity::kWarning)};
  return table;
}

std::vector<std::string> Names(const TopTable& table) {
  std::vector<std::string> names;
  for (const Row& row : table.rows) names.push_back(row.id.name);
  return names;
}

TEST(TableTest, WhatIsWrongComesFirst) {
  TopTable table = Some();
  SortRows({}, &table);
  EXPECT_THAT(Names(table), ElementsAre("db-1", "db-2", "web-2", "web-1"));
  SortRows({.reversed = true}, &table);
  EXPECT_THAT(Names(table), ElementsAre("web-2", "web-1", "db-2", "db-1"));
}

TEST(TableTest, NumbersAreSortedAsNumbersAndWhatHasNoneComesLast) {
  TopTable table = Some();
  SortRows({.column = 1}, &table);
  EXPECT_THAT(Names(table), ElementsAre("web-1", "web-2", "db-2", "db-1"));
  SortRows({.column = 1, .reversed = true}, &table);
  EXPECT_THAT(Names(table), ElementsAre("db-2", "web-2", "web-1", "db-1"));
}

TEST(TableTest, TextIsSortedAsText) {
  TopTable table = Some();
  SortRows({.column = 0}, &table);
  EXPECT_THAT(Names(table), ElementsAre("db-1", "db-2", "web-1", "web-2"));
}

TEST(TableTest, AFilterWantsAllItsWordsInAnyCase) {
  TopTable table = Some();
  FilterRows("WEB", &table);
  EXPECT_THAT(Names(table), ElementsAre("web-2", "web-1"));
  FilterRows(" web  9 ", &table);
  EXPECT_THAT(Names(table), ElementsAre("web-1"));
  FilterRows("nothing", &table);
  EXPECT_THAT(Names(table), IsEmpty());
}

TEST(TableTest, AnEmptyFilterKeepsAll) {
  TopTable table = Some();
  FilterRows("  ", &table);
  EXPECT_EQ(table.rows.size(), 4u);
}

}  // namespace
}  // namespace tsc_handoff::tscctl
