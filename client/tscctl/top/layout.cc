#include "client/tscctl/top/layout.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "client/tscctl/top/text.h"

namespace tsc_handoff::tscctl {
namespace {

// A row's mark and the blank after it.
constexpr size_t kGutter = 2;
constexpr size_t kGap = 2;
// The column that stretches has at least this, or what it needs.
constexpr size_t kLeastStretch = 24;
// Title and columns' titles.
constexpr size_t kPaneHead = 2;
// Fewer lines are for the active pane alone.
constexpr size_t kLeastHeightForAll = 12;

size_t DesiredLines(const Pane& pane) {
  return pane.table->rows.empty() ? 1 : kPaneHead + pane.table->rows.size();
}

const char* Mark(Severity severity) {
  switch (severity) {
    case Severity::kBad:
      return "!";
    case Severity::kWarning:
      return "*";
    case Severity::kNormal:
      return " ";
  }
  return " ";
}

Look MarkLook(Severity severity) {
  return severity == Severity::kBad       ? Look::kBad
         : severity == Severity::kWarning ? Look::kWarning
                                          : Look::kPlain;
}

std::string Repeated(const std::string& text, size_t times) {
  std::string repeated;
  for (size_t i = 0; i < times; ++i) repeated += text;
  return repeated;
}

// "> VMs 3 of 200 /web ------------------------ 1-3 of 3 --".
Line TitleLine(const Pane& pane, bool active, size_t width, size_t shown, const Glyphs& glyphs) {
  const size_t count = pane.table->rows.size();
  std::string counts = absl::StrCat(count);
  if (!pane.filter.empty()) absl::StrAppend(&counts, " of ", pane.unfiltered_rows);
  std::vector<Span> spans = {{.text = active ? glyphs.active + " " : "  ", .look = Look::kHeading},
                             {.text = pane.title, .look = active ? Look::kHeading : Look::kBold},
                             {.text = " " + counts, .look = Look::kPlain}};
  if (!pane.filter.empty())
    spans.push_back({.text = "  filter /" + pane.filter, .look = Look::kWarning});
  if (count == 0) {
    const bool filtered = !pane.filter.empty() && pane.unfiltered_rows > 0;
    spans.push_back(
        {.text = filtered ? "  none matches" : "  " + pane.nothing, .look = Look::kDim});
  }
  std::string range;
  if (shown < count)
    range = absl::StrCat(" ", pane.first + 1, "-", pane.first + shown, " of ", count, " ");
  size_t used = 1;
  for (const Span& span : spans) used += TextWidth(span.text);
  const size_t end = TextWidth(range) + (range.empty() ? 0 : 2);
  if (used + end < width) {
    spans.push_back({.text = " " + Repeated(glyphs.rule, width - used - end), .look = Look::kDim});
    if (!range.empty()) {
      spans.push_back({.text = range, .look = Look::kPlain});
      spans.push_back({.text = Repeated(glyphs.rule, 2), .look = Look::kDim});
    }
  }
  return FitLine(spans, width, glyphs);
}

std::string ColumnTitle(const TopTable& table, size_t column, const Sort& sort,
                        const Glyphs& glyphs) {
  const std::string& title = table.columns[column].title;
  if (sort.column != column) return title;
  return title + (sort.reversed ? glyphs.down : glyphs.up);
}

Line HeadingLine(const Pane& pane, const std::vector<size_t>& widths, size_t width,
                 const Glyphs& glyphs) {
  std::vector<Span> spans = {{.text = std::string(kGutter, ' '), .look = Look::kBold}};
  for (size_t i = 0; i < widths.size(); ++i) {
    if (widths[i] == 0) continue;
    const std::string title = ColumnTitle(*pane.table, i, pane.sort, glyphs);
    const bool right = pane.table->columns[i].right;
    const std::string cell = right ? FitRight(title, widths[i], glyphs.ellipsis)
                                   : FitLeft(title, widths[i], glyphs.ellipsis);
    spans.push_back({.text = cell, .look = pane.sort.column == i ? Look::kHeading : Look::kBold});
    spans.push_back({.text = std::string(kGap, ' '), .look = Look::kBold});
  }
  return FitLine(spans, width, glyphs);
}

Line RowLine(const Row& row, const TopTable& table, const std::vector<size_t>& widths,
             bool selected, size_t width, const Glyphs& glyphs) {
  std::vector<Span> spans = {{.text = Mark(row.severity), .look = MarkLook(row.severity)},
                             {.text = " "}};
  for (size_t i = 0; i < widths.size(); ++i) {
    if (widths[i] == 0) continue;
    const Cell& cell = row.cells[i];
    const std::string text = table.columns[i].right
                                 ? FitRight(cell.text, widths[i], glyphs.ellipsis)
                                 : FitLeft(cell.text, widths[i], glyphs.ellipsis);
    // An alarm is an alarm, however old.
    const bool faint = row.past && cell.look != Look::kBad;
    spans.push_back({.text = text, .look = faint ? Look::kDim : cell.look});
    spans.push_back({.text = std::string(kGap, ' ')});
  }
  Line line = FitLine(spans, width, glyphs);
  if (selected) {
    for (Span& span : line) span.reverse = true;
  }
  return line;
}

}  // namespace

std::vector<size_t> ShareHeight(const std::vector<Pane>& panes, size_t active, size_t height) {
  std::vector<size_t> lines(panes.size(), 0);
  if (height < kLeastHeightForAll) {
    lines[active] = height;
    return lines;
  }
  size_t left = height;
  const auto give = [&](size_t pane, size_t upto) {
    const size_t wanted = std::min(upto, DesiredLines(panes[pane]));
    const size_t more = std::min(left, wanted > lines[pane] ? wanted - lines[pane] : 0);
    lines[pane] += more;
    left -= more;
  };
  // Each can be seen; then none but the active one has more than a third before that has what it
  // wants.
  for (size_t i = 0; i < panes.size(); ++i) give(i, kPaneHead + 1);
  for (size_t i = 0; i < panes.size(); ++i) give(i, height / panes.size());
  give(active, height);
  for (size_t i = 0; i < panes.size(); ++i) give(i, height);
  return lines;
}

size_t RowsIn(const Pane& pane, size_t lines) {
  if (lines <= kPaneHead) return 0;
  return std::min(lines - kPaneHead, pane.table->rows.size());
}

size_t ScrolledTo(size_t first, std::optional<size_t> selected, size_t visible, size_t count) {
  if (visible == 0) return 0;
  if (selected.has_value()) {
    if (*selected < first) first = *selected;
    if (*selected >= first + visible) first = *selected - visible + 1;
  }
  return std::min(first, count > visible ? count - visible : 0);
}

std::vector<size_t> ColumnWidths(const TopTable& table, size_t width) {
  std::vector<size_t> widths;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    // The mark of the sorted column has a place in all, so that nothing moves with it.
    size_t needed = TextWidth(table.columns[i].title) + 1;
    for (const Row& row : table.rows) needed = std::max(needed, TextWidth(row.cells[i].text));
    widths.push_back(needed);
  }
  const auto least = [&](size_t i) {
    return table.columns[i].stretches ? std::min(widths[i], kLeastStretch) : widths[i];
  };
  const auto needed = [&] {
    size_t sum = kGutter;
    for (size_t i = 0; i < widths.size(); ++i) sum += widths[i] == 0 ? 0 : least(i) + kGap;
    return sum - kGap;
  };
  while (needed() > width) {
    size_t victim = 0;
    for (size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] != 0 && table.columns[i].leave_out > table.columns[victim].leave_out)
        victim = i;
    }
    // What is left is cut at the screen's edge.
    if (table.columns[victim].leave_out == 0 || widths[victim] == 0) break;
    widths[victim] = 0;
  }
  for (size_t i = 0; i < widths.size(); ++i) {
    if (!table.columns[i].stretches || widths[i] == 0) continue;
    const size_t others = needed() - least(i);
    widths[i] = std::max(least(i), width > others ? width - others : 0);
  }
  return widths;
}

std::vector<Line> DrawPane(const Pane& pane, bool active, size_t width, size_t lines,
                           const Glyphs& glyphs) {
  std::vector<Line> drawn;
  if (lines == 0) return drawn;
  const size_t visible = RowsIn(pane, lines);
  drawn.push_back(TitleLine(pane, active, width, visible, glyphs));
  if (visible > 0) {
    const std::vector<size_t> widths = ColumnWidths(*pane.table, width);
    drawn.push_back(HeadingLine(pane, widths, width, glyphs));
    for (size_t i = 0; i < visible && pane.first + i < pane.table->rows.size(); ++i) {
      const size_t row = pane.first + i;
      drawn.push_back(RowLine(pane.table->rows[row], *pane.table, widths,
                              active && pane.selected == row, width, glyphs));
    }
  }
  drawn.resize(lines);
  return drawn;
}

std::vector<Line> DrawDetails(const Details& details, size_t* first, size_t width, size_t lines,
                              const Glyphs& glyphs) {
  size_t names = 0;
  for (const Detail& detail : details.lines) names = std::max(names, TextWidth(detail.name));
  std::vector<Line> all;
  for (const Detail& detail : details.lines) {
    const size_t indent = detail.name.empty() ? kGutter : kGutter + names + kGap;
    const size_t room = width > indent + kGutter ? width - indent : width;
    bool first_line = true;
    for (const std::string& part : Wrapped(detail.value, room)) {
      const std::string name = first_line && !detail.name.empty()
                                   ? std::string(kGutter, ' ') + detail.name
                                   : std::string();
      all.push_back(FitLine(
          {{.text = FitLeft(name, room == width ? 0 : indent, glyphs.ellipsis), .look = Look::kDim},
           {.text = part, .look = detail.look}},
          width, glyphs));
      first_line = false;
    }
  }
  std::vector<Line> drawn;
  const size_t visible = lines > 1 ? lines - 1 : 0;
  *first = std::min(*first, all.size() > visible ? all.size() - visible : 0);
  std::string title = details.title;
  if (all.size() > visible)
    absl::StrAppend(&title, "  ", *first + 1, "-", std::min(*first + visible, all.size()), " of ",
                    all.size());
  drawn.push_back(
      FitLine({{.text = glyphs.active + " " + title, .look = Look::kHeading}}, width, glyphs));
  for (size_t i = *first; i < all.size() && drawn.size() < lines; ++i) drawn.push_back(all[i]);
  drawn.resize(lines);
  return drawn;
}

Line FitLine(const std::vector<Span>& spans, size_t width, const Glyphs& glyphs) {
  Line line;
  size_t left = width;
  for (const Span& span : spans) {
    const size_t cells = std::min(left, TextWidth(span.text));
    if (cells == 0) continue;
    Span fitted = span;
    if (cells < TextWidth(span.text)) fitted.text = FitLeft(span.text, cells, glyphs.ellipsis);
    line.push_back(std::move(fitted));
    left -= cells;
  }
  if (left > 0) line.push_back({.text = std::string(left, ' ')});
  return line;
}

}  // namespace tsc_handoff::tscctl
