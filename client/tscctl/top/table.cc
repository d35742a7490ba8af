#include "client/tscctl/top/table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff::tscctl {
namespace {

// What has no number comes after what has one, either way round.
bool Before(const Cell& a, const Cell& b, bool reversed) {
  if (a.number.has_value() != b.number.has_value()) return a.number.has_value();
  if (a.number.has_value()) return reversed ? *a.number > *b.number : *a.number < *b.number;
  return reversed ? a.text > b.text : a.text < b.text;
}

bool Matches(const Row& row, const std::vector<std::string>& words) {
  std::string text;
  for (const Cell& cell : row.cells) absl::StrAppend(&text, cell.text, "\n");
  absl::AsciiStrToLower(&text);
  return std::all_of(words.begin(), words.end(),
                     [&](const std::string& word) { return absl::StrContains(text, word); });
}

}  // namespace

void SortRows(const Sort& sort, TopTable* table) {
  const auto before = [&sort](const Row& a, const Row& b) {
    if (sort.column.has_value())
      return Before(a.cells[*sort.column], b.cells[*sort.column], sort.reversed);
    return sort.reversed ? a.severity < b.severity : a.severity > b.severity;
  };
  std::stable_sort(table->rows.begin(), table->rows.end(), before);
}

void FilterRows(const std::string& filter, TopTable* table) {
  const std::vector<std::string> words =
      absl::StrSplit(absl::AsciiStrToLower(filter), ' ', absl::SkipEmpty());
  if (words.empty()) return;
  std::erase_if(table->rows, [&](const Row& row) { return !Matches(row, words); });
}

}  // namespace tsc_handoff::tscctl
