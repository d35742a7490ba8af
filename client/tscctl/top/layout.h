// From rows to lines: which columns find room, how the panes share the screen, how a row looks.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_LAYOUT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_LAYOUT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "client/tscctl/top/details.h"
#include "client/tscctl/top/screen.h"
#include "client/tscctl/top/table.h"

namespace tsc_handoff::tscctl {

// A table with what stands around it.
struct Pane {
  std::string title;
  // What stands in its place when there is no row.
  std::string nothing;
  const TopTable* table = nullptr;
  // How many rows there would be without the filter.
  size_t unfiltered_rows = 0;
  std::string filter;
  Sort sort;
  // The selected row, where there is one, and the first one on the screen.
  std::optional<size_t> selected;
  size_t first = 0;
};

// How many lines each pane gets of `height`, its title with it; all of them go to the active one
// where there is not room for all, the others get 0.
std::vector<size_t> ShareHeight(const std::vector<Pane>& panes, size_t active, size_t height);

// Of a pane's lines those that show rows.
size_t RowsIn(const Pane& pane, size_t lines);

// Where a list has to begin so that `selected` is among the `visible` lines; moves no more than
// necessary, and leaves no room empty at the end.
size_t ScrolledTo(size_t first, std::optional<size_t> selected, size_t visible, size_t count);

// The widths of the columns in `width` cells, 0 for those left out.
std::vector<size_t> ColumnWidths(const TopTable& table, size_t width);

// The pane in `lines` lines of `width` cells.
std::vector<Line> DrawPane(const Pane& pane, bool active, size_t width, size_t lines,
                           const Glyphs& glyphs);

// The details from line `first` on, in `lines` lines; `first` is cut to what there is.
std::vector<Line> DrawDetails(const Details& details, size_t* first, size_t width, size_t lines,
                              const Glyphs& glyphs);

// As many spans as fit, in their order, with blanks up to `width`.
Line FitLine(const std::vector<Span>& spans, size_t width, const Glyphs& glyphs);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_LAYOUT_H_
