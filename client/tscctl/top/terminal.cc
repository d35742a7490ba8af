#include "client/tscctl/top/terminal.h"

// Functions instead of macros, whose names would be everybody's.
#define NCURSES_NOMACROS 1
#include <curses.h>
#include <langinfo.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::tscctl {
namespace {

// How long to wait for the rest of a key's sequence after Escape, in ms.
constexpr int kEscapeDelayMs = 25;

enum Pair : short { kGoodPair = 1, kWarningPair, kBadPair, kHeadingPair };

attr_t AttributesOf(const Span& span, bool color) {
  const attr_t reverse = span.reverse ? A_REVERSE : A_NORMAL;
  const auto in = [&](Pair pair) { return color ? COLOR_PAIR(pair) : A_NORMAL; };
  switch (span.look) {
    case Look::kPlain:
      return reverse;
    case Look::kDim:
      return reverse | A_DIM;
    case Look::kBold:
      return reverse | A_BOLD;
    case Look::kHeading:
      return reverse | A_BOLD | in(kHeadingPair);
    case Look::kGood:
      return reverse | in(kGoodPair);
    case Look::kWarning:
      return reverse | (color ? in(kWarningPair) : A_UNDERLINE);
    case Look::kBad:
      return reverse | A_BOLD | in(kBadPair);
  }
  return reverse;
}

void StartColors() {
  start_color();
  use_default_colors();
  init_pair(kGoodPair, COLOR_GREEN, -1);
  init_pair(kWarningPair, COLOR_YELLOW, -1);
  init_pair(kBadPair, COLOR_RED, -1);
  init_pair(kHeadingPair, COLOR_CYAN, -1);
}

Key::Code CodeOf(int key) {
  switch (key) {
    case KEY_UP:
      return Key::Code::kUp;
    case KEY_DOWN:
      return Key::Code::kDown;
    case KEY_PPAGE:
      return Key::Code::kPageUp;
    case KEY_NPAGE:
      return Key::Code::kPageDown;
    case KEY_HOME:
      return Key::Code::kHome;
    case KEY_END:
      return Key::Code::kEnd;
    case '\t':
      return Key::Code::kTab;
    case KEY_BTAB:
      return Key::Code::kBackTab;
    case '\r':
    case '\n':
    case KEY_ENTER:
      return Key::Code::kEnter;
    case '\x1b':
      return Key::Code::kEscape;
    case KEY_BACKSPACE:
    case '\b':
    case '\x7f':
      return Key::Code::kBackspace;
    case '\x15':
      return Key::Code::kEraseLine;
    case '\x0c':
      return Key::Code::kRedraw;
    case KEY_F(1):
      return Key::Code::kHelp;
    default:
      return Key::Code::kOther;
  }
}

absl::Status Unusable(const char* term) {
  const std::string what =
      term == nullptr || *term == '\0'
          ? "TERM is not set"
          : absl::StrCat("TERM=", term, " names no terminal that can be drawn on");
  return absl::FailedPreconditionError(what);
}

}  // namespace

struct Terminal::Curses {
  SCREEN* screen = nullptr;
  bool color = false;
};

absl::StatusOr<std::unique_ptr<Terminal>> Terminal::Open(bool color) {
  // Characters only: numbers keep their points.
  std::setlocale(LC_CTYPE, "");
  const bool utf8 = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  const char* term = std::getenv("TERM");
  if (term == nullptr || *term == '\0') return Unusable(term);
  auto curses = std::make_unique<Curses>();
  curses->screen = newterm(nullptr, stdout, stdin);
  if (curses->screen == nullptr) return Unusable(term);
  set_term(curses->screen);
  // Without it each line would go where the cursor happens to be.
  if (tigetstr("cup") == nullptr || tigetstr("clear") == nullptr) {
    endwin();
    delscreen(curses->screen);
    return Unusable(term);
  }
  curses->color = color && has_colors();
  if (curses->color) StartColors();
  cbreak();
  noecho();
  nonl();
  keypad(stdscr, TRUE);
  nodelay(stdscr, TRUE);
  intrflush(stdscr, FALSE);
  set_escdelay(kEscapeDelayMs);
  leaveok(stdscr, FALSE);
  curs_set(0);
  return std::unique_ptr<Terminal>(
      new Terminal(std::move(curses), utf8 ? UnicodeGlyphs() : Glyphs()));
}

Terminal::Terminal(std::unique_ptr<Curses> curses, Glyphs glyphs)
    : curses_(std::move(curses)), glyphs_(std::move(glyphs)) {}

Terminal::~Terminal() {
  // Where there is no second screen, what was drawn stays, and the shell goes on in its last line.
  if (tigetstr("rmcup") == nullptr) {
    wmove(stdscr, getmaxy(stdscr) - 1, 0);
    wclrtoeol(stdscr);
    wrefresh(stdscr);
  }
  endwin();
  delscreen(curses_->screen);
}

Size Terminal::size() const {
  return {static_cast<size_t>(std::max(getmaxx(stdscr), 0)),
          static_cast<size_t>(std::max(getmaxy(stdscr), 0))};
}

void Terminal::Show(const Screen& screen) {
  werase(stdscr);
  const int height = getmaxy(stdscr);
  for (int y = 0; y < height && static_cast<size_t>(y) < screen.lines.size(); ++y) {
    wmove(stdscr, y, 0);
    for (const Span& span : screen.lines[static_cast<size_t>(y)]) {
      wattrset(stdscr, static_cast<int>(AttributesOf(span, curses_->color)));
      // The last cell of the screen cannot be written without scrolling: curses says so, and does.
      waddnstr(stdscr, span.text.c_str(), static_cast<int>(span.text.size()));
    }
  }
  wattrset(stdscr, A_NORMAL);
  if (screen.cursor_column.has_value()) {
    wmove(stdscr, height - 1, static_cast<int>(*screen.cursor_column));
    curs_set(1);
  } else {
    curs_set(0);
  }
  wrefresh(stdscr);
}

std::optional<Key> Terminal::ReadKey() {
  const int key = wgetch(stdscr);
  if (key == ERR) return std::nullopt;
  if (key >= ' ' && key <= '~')
    return Key{.code = Key::Code::kCharacter, .character = static_cast<char>(key)};
  return Key{.code = CodeOf(key), .character = '\0'};
}

void Terminal::Resize() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return;
  resizeterm(size.ws_row, size.ws_col);
  Redraw();
}

void Terminal::Redraw() { clearok(stdscr, TRUE); }

void Terminal::Suspend() {
  endwin();
  raise(SIGSTOP);
  Resize();
  Redraw();
}

}  // namespace tsc_handoff::tscctl
