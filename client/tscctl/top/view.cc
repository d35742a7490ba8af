#include "client/tscctl/top/view.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/tscctl/top/help_screen.h"
#include "client/tscctl/top/summary.h"
#include "client/tscctl/top/tables.h"
#include "client/tscctl/top/text.h"

namespace tsc_handoff::tscctl {
namespace {

constexpr size_t kHosts = 0;
constexpr size_t kHandoffs = 1;
constexpr size_t kVms = 2;
constexpr size_t kLongestFilter = 60;
// Status line and foot line.
constexpr size_t kFrame = 2;

const char* const kTitles[] = {"Hosts", "Handoffs", "VMs"};
const char* const kNothing[] = {"none", "none in progress", "none"};

}  // namespace

void View::SetSnapshot(Snapshot snapshot, const Moment& now) {
  if (paused_ && has_snapshot_) return;
  has_snapshot_ = true;
  snapshot_ = std::move(snapshot);
  now_ = now;
}

void View::Handle(const Key& key) {
  switch (mode_) {
    case Mode::kTables:
      return HandleInTables(key);
    case Mode::kFilter:
      return HandleFilter(key);
    case Mode::kDetails:
    case Mode::kHelp:
      return HandleText(key);
  }
}

void View::HandleInTables(const Key& key) {
  switch (key.code) {
    case Key::Code::kCharacter:
      return HandleCharacter(key.character);
    case Key::Code::kTab:
      active_ = (active_ + 1) % kPanes;
      return;
    case Key::Code::kBackTab:
      active_ = (active_ + kPanes - 1) % kPanes;
      return;
    case Key::Code::kEnter:
      if (active_pane().table.rows.empty()) return;
      details_of_ = active_pane().table.rows[active_pane().selected_index].id;
      active_pane().selected = details_of_;
      text_first_ = 0;
      mode_ = Mode::kDetails;
      return;
    case Key::Code::kEscape:
      active_pane().filter.clear();
      return;
    case Key::Code::kHelp:
      return HandleCharacter('?');
    default:
      return MoveSelection(key);
  }
}

void View::HandleCharacter(char character) {
  switch (character) {
    case 'q':
      quit_ = true;
      return;
    case '?':
    case 'h':
      text_first_ = 0;
      mode_ = Mode::kHelp;
      return;
    case '/':
      filter_before_ = active_pane().filter;
      mode_ = Mode::kFilter;
      return;
    case 's':
      return NextSort(/*forward=*/true);
    case 'S':
      return NextSort(/*forward=*/false);
    case 'r':
      active_pane().sort.reversed = !active_pane().sort.reversed;
      return;
    case 'p':
    case ' ':
      paused_ = !paused_;
      return;
    case '1':
    case '2':
    case '3':
      active_ = static_cast<size_t>(character - '1');
      return;
    case 'j':
      return MoveSelection({.code = Key::Code::kDown});
    case 'k':
      return MoveSelection({.code = Key::Code::kUp});
    default:
      return;
  }
}

void View::HandleFilter(const Key& key) {
  std::string& filter = active_pane().filter;
  switch (key.code) {
    case Key::Code::kCharacter:
      if (filter.size() < kLongestFilter) filter.push_back(key.character);
      return;
    case Key::Code::kBackspace:
      if (filter.empty()) {
        mode_ = Mode::kTables;
      } else {
        filter.pop_back();
      }
      return;
    case Key::Code::kEraseLine:
      filter.clear();
      return;
    case Key::Code::kEnter:
      mode_ = Mode::kTables;
      return;
    case Key::Code::kEscape:
      filter = filter_before_;
      mode_ = Mode::kTables;
      return;
    default:
      return MoveSelection(key);
  }
}

void View::HandleText(const Key& key) {
  const bool leaves =
      key.code == Key::Code::kEscape || key.code == Key::Code::kEnter ||
      key.code == Key::Code::kHelp ||
      (key.code == Key::Code::kCharacter && (key.character == 'q' || key.character == '?'));
  if (leaves) {
    mode_ = Mode::kTables;
    return;
  }
  const bool down = key.code == Key::Code::kDown || key.character == 'j';
  const bool up = key.code == Key::Code::kUp || key.character == 'k';
  if (down) ++text_first_;
  if (up && text_first_ > 0) --text_first_;
  if (key.code == Key::Code::kPageDown) text_first_ += page_;
  if (key.code == Key::Code::kPageUp) text_first_ -= std::min(text_first_, page_);
  if (key.code == Key::Code::kHome) text_first_ = 0;
  if (key.code == Key::Code::kEnd) text_first_ = SIZE_MAX;
  if (key.character == 'p' || key.character == ' ') paused_ = !paused_;
}

void View::MoveSelection(const Key& key) {
  PaneState& pane = active_pane();
  const size_t count = pane.table.rows.size();
  if (count == 0) return;
  size_t& index = pane.selected_index;
  switch (key.code) {
    case Key::Code::kUp:
      index -= std::min<size_t>(index, 1);
      break;
    case Key::Code::kDown:
      index += 1;
      break;
    case Key::Code::kPageUp:
      index -= std::min(index, page_);
      break;
    case Key::Code::kPageDown:
      index += page_;
      break;
    case Key::Code::kHome:
      index = 0;
      break;
    case Key::Code::kEnd:
      index = count - 1;
      break;
    default:
      return;
  }
  index = std::min(index, count - 1);
  pane.selected = pane.table.rows[index].id;
}

void View::NextSort(bool forward) {
  Sort& sort = active_pane().sort;
  const size_t columns = active_pane().table.columns.size();
  // Nothing is the place before the first column.
  const size_t place = sort.column.has_value() ? *sort.column + 1 : 0;
  const size_t next = (place + (forward ? 1 : columns)) % (columns + 1);
  sort = {};
  if (next > 0) sort.column = next - 1;
}

void View::MakeTables() {
  panes_[kHosts].table = HostTable(snapshot_, now_);
  panes_[kHandoffs].table = HandoffTable(snapshot_, now_);
  panes_[kVms].table = VmTable(snapshot_);
  for (PaneState& pane : panes_) {
    pane.unfiltered_rows = pane.table.rows.size();
    FilterRows(pane.filter, &pane.table);
    SortRows(pane.sort, &pane.table);
    FindSelected(&pane);
  }
}

void View::FindSelected(PaneState* pane) {
  const std::vector<Row>& rows = pane->table.rows;
  if (rows.empty()) {
    pane->selected.reset();
    return;
  }
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const Row& row) { return pane->selected == row.id; });
  // What nobody chose stays the first, which is the worst.
  if (!pane->selected.has_value()) pane->selected_index = 0;
  pane->selected_index = found != rows.end() ? static_cast<size_t>(found - rows.begin())
                                             : std::min(pane->selected_index, rows.size() - 1);
  if (pane->selected.has_value()) pane->selected = rows[pane->selected_index].id;
}

Pane View::PaneOf(size_t index) const {
  const PaneState& state = panes_[index];
  Pane pane;
  pane.title = kTitles[index];
  pane.nothing = kNothing[index];
  pane.table = &state.table;
  pane.unfiltered_rows = state.unfiltered_rows;
  pane.filter = state.filter;
  pane.sort = state.sort;
  if (!state.table.rows.empty()) pane.selected = state.selected_index;
  pane.first = state.first;
  return pane;
}

Details View::CurrentDetails() const {
  switch (active_) {
    case kHosts:
      return HostDetails(snapshot_, details_of_, now_);
    case kHandoffs:
      return HandoffDetails(snapshot_, details_of_, now_);
    default:
      return VmDetails(snapshot_, details_of_);
  }
}

Screen View::Draw(const Size& size, const Glyphs& glyphs) {
  MakeTables();
  Screen screen;
  if (size.height == 0 || size.width == 0) return screen;
  screen.lines.push_back(StatusLine(size.width, glyphs));
  const size_t body = size.height > kFrame ? size.height - kFrame : 0;
  if (mode_ == Mode::kDetails || mode_ == Mode::kHelp) {
    page_ = std::max<size_t>(body, 2) - 1;
    const Details details = mode_ == Mode::kHelp ? HelpScreen(glyphs) : CurrentDetails();
    for (Line& line : DrawDetails(details, &text_first_, size.width, body, glyphs))
      screen.lines.push_back(std::move(line));
  } else {
    DrawTables({size.width, body}, glyphs, &screen);
  }
  screen.lines.resize(std::max<size_t>(size.height - 1, 1));
  if (size.height > 1) screen.lines.push_back(FootLine(size.width, glyphs, &screen));
  return screen;
}

void View::DrawTables(const Size& size, const Glyphs& glyphs, Screen* screen) {
  std::vector<Pane> panes;
  for (size_t i = 0; i < kPanes; ++i) panes.push_back(PaneOf(i));
  const std::vector<size_t> lines = ShareHeight(panes, active_, size.height);
  for (size_t i = 0; i < kPanes; ++i) {
    const size_t visible = RowsIn(panes[i], lines[i]);
    panes_[i].first =
        ScrolledTo(panes[i].first, panes[i].selected, visible, panes[i].table->rows.size());
    panes[i].first = panes_[i].first;
    if (i == active_) page_ = std::max<size_t>(visible, 1);
    for (Line& line : DrawPane(panes[i], i == active_, size.width, lines[i], glyphs))
      screen->lines.push_back(std::move(line));
  }
}

Line View::StatusLine(size_t width, const Glyphs& glyphs) const {
  const Summary summary = Summarise(snapshot_);
  const std::string clock =
      paused_ ? " PAUSED " : absl::FormatTime(" %H:%M:%S UTC ", now_.wall, absl::UTCTimeZone());
  const bool well = summary.alarms.empty();
  const std::string state = well ? " ok " : " ! " + absl::StrJoin(summary.alarms, ", ") + " ";
  std::vector<Span> spans = {{.text = " tscctl top ", .look = Look::kBold},
                             {.text = state, .look = well ? Look::kGood : Look::kBad}};
  // The time comes after what is wrong, and before what is only counted.
  const size_t room = width > TextWidth(clock) ? width - TextWidth(clock) : 0;
  size_t used = TextWidth(spans[0].text) + TextWidth(spans[1].text);
  for (const std::string& count : summary.counts) {
    const std::string text = (spans.size() == 2 ? " " : ", ") + count;
    used += TextWidth(text);
    if (used > room) break;
    spans.push_back({.text = text});
  }
  Line line = FitLine(spans, room > 0 ? room : width, glyphs);
  if (room > 0) line.push_back({.text = clock, .look = paused_ ? Look::kWarning : Look::kPlain});
  for (Span& span : line) span.reverse = true;
  return line;
}

Line View::FootLine(size_t width, const Glyphs& glyphs, Screen* screen) const {
  if (mode_ == Mode::kFilter) {
    const std::string typed = "/" + panes_[active_].filter;
    screen->cursor_column = std::min(TextWidth(typed), width - 1);
    return FitLine({{.text = typed, .look = Look::kBold},
                    {.text = "   Enter keep  Esc undo", .look = Look::kDim}},
                   width, glyphs);
  }
  const bool text = mode_ == Mode::kDetails || mode_ == Mode::kHelp;
  using Hint = std::pair<std::string, std::string>;
  const std::vector<Hint> hints =
      text ? std::vector<Hint>{{"Esc", "back"}, {glyphs.arrows, "scroll"}}
           : std::vector<Hint>{{"q", "quit"},
                               {"?", "help"},
                               {"Tab", "pane"},
                               {"Enter", "details"},
                               {"/", "filter"},
                               {"s", "sort"},
                               {"p", paused_ ? "go on" : "pause"},
                               {"r", "reverse"},
                               {glyphs.arrows, "select"}};
  std::vector<Span> spans;
  size_t used = 0;
  for (const auto& [key, what] : hints) {
    const std::string after = " " + what + "  ";
    used += 1 + TextWidth(key) + TextWidth(after);
    if (used > width) break;
    spans.push_back({.text = " " + key, .look = Look::kBold});
    spans.push_back({.text = after, .look = Look::kDim});
  }
  return FitLine(spans, width, glyphs);
}

}  // namespace tsc_handoff::tscctl
