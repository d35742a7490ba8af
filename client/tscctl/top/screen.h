// What is to be on the terminal: lines of styled text, whatever shows them. Values.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_SCREEN_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_SCREEN_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace tsc_handoff::tscctl {

// What a text is, from which its colour follows. Nothing is told by colour alone.
enum class Look { kPlain, kDim, kBold, kHeading, kGood, kWarning, kBad };

struct Span {
  // UTF-8, or ASCII where the terminal knows no more; every character is one cell wide.
  std::string text;
  Look look = Look::kPlain;
  // In reverse: the selected row, the first line.
  bool reverse = false;

  bool operator==(const Span&) const = default;
};

using Line = std::vector<Span>;

struct Screen {
  // As many as the terminal has, none wider than it.
  std::vector<Line> lines;
  // Where text is being typed, in the last line.
  std::optional<size_t> cursor_column;
};

struct Size {
  size_t width = 0;
  size_t height = 0;
};

// What the terminal can show.
struct Glyphs {
  std::string rule = "-";
  std::string ellipsis = "~";
  std::string up = "^";
  std::string down = "v";
  std::string active = ">";
  std::string arrows = "Up/Down";
};

inline Glyphs UnicodeGlyphs() {
  return {.rule = "─", .ellipsis = "…", .up = "▲", .down = "▼", .active = "▶", .arrows = "↑↓"};
}

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_SCREEN_H_
