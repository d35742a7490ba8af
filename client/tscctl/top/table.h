// Rows and columns as `tscctl top` has them, sorted and filtered. Threading: pure functions,
// values.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_TABLE_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_TABLE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "client/tscctl/top/screen.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

enum class Severity { kNormal = 0, kWarning = 1, kBad = 2 };

struct TopColumn {
  std::string title = {};
  bool right = false;
  // Where there is no room for all, columns with the highest are left out first; 0 never.
  int leave_out = 0;
  // Takes what room is left, and is cut first. At most one of a table.
  bool stretches = false;
};

struct Cell {
  std::string text = {};
  Look look = Look::kPlain;
  // By what it is sorted, where it is not the text.
  std::optional<double> number = std::nullopt;
};

// What a row is about, so that it is found again in the next table.
struct RowId {
  size_t agent = 0;
  // VM or handoff; empty for a host.
  std::string name = {};
  tschandoff::v1::Handoff::Side side = tschandoff::v1::Handoff::SIDE_UNSPECIFIED;

  bool operator==(const RowId&) const = default;
};

struct Row {
  RowId id = {};
  Severity severity = Severity::kNormal;
  // It is over, or not known any more: shown less strongly.
  bool past = false;
  // One for each column.
  std::vector<Cell> cells = {};
};

struct TopTable {
  std::vector<TopColumn> columns;
  // In an order that suits where nothing else is asked.
  std::vector<Row> rows;
};

struct Sort {
  // Nothing: what is wrong comes first, then as the table has it.
  std::optional<size_t> column = std::nullopt;
  bool reversed = false;

  bool operator==(const Sort&) const = default;
};

void SortRows(const Sort& sort, TopTable* table);

// Keeps rows that have every word of `filter` in one of their cells; case does not matter.
void FilterRows(const std::string& filter, TopTable* table);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_TABLE_H_
