#include "client/tscctl/top/text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff::tscctl {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The first `width` characters.
absl::string_view FirstCells(absl::string_view text, size_t width) {
  size_t cells = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsContinuation(text[i]) && cells++ == width) return text.substr(0, i);
  }
  return text;
}

// In at most `width` cells.
std::string Cut(absl::string_view text, size_t width, absl::string_view ellipsis) {
  if (TextWidth(text) <= width) return std::string(text);
  if (width == 0) return "";
  return absl::StrCat(FirstCells(text, width - 1), ellipsis);
}

std::string ThreeDigits(double value, const char* unit) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f %s", decimals, value, unit);
}

}  // namespace

std::string AsciiText(absl::string_view text) {
  std::string ascii;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (IsContinuation(c)) continue;
    const bool space = c == '\n' || c == '\t';
    ascii.push_back(space ? ' ' : byte < 0x20 || byte > 0x7e ? '?' : c);
  }
  return ascii;
}

size_t TextWidth(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); }));
}

std::string FitLeft(absl::string_view text, size_t width, absl::string_view ellipsis) {
  std::string cut = Cut(text, width, ellipsis);
  cut.append(width - TextWidth(cut), ' ');
  return cut;
}

std::string FitRight(absl::string_view text, size_t width, absl::string_view ellipsis) {
  const std::string cut = Cut(text, width, ellipsis);
  return std::string(width - TextWidth(cut), ' ') + cut;
}

std::vector<std::string> Wrapped(absl::string_view text, size_t width) {
  std::vector<std::string> lines;
  std::string line;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!line.empty() && TextWidth(line) + 1 + TextWidth(word) > width) {
      lines.push_back(std::exchange(line, ""));
    }
    while (TextWidth(word) > width && width > 0) {
      const absl::string_view first = FirstCells(word, width);
      lines.emplace_back(first);
      word.remove_prefix(first.size());
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
  }
  lines.push_back(line);
  return lines;
}

std::string ShortNs(uint64_t value_ns) {
  const auto ns = static_cast<double>(value_ns);
  if (value_ns < 1'000) return absl::StrCat(value_ns, " ns");
  if (ns < 999.5e3) return ThreeDigits(ns / 1e3, "us");
  if (ns < 999.5e6) return ThreeDigits(ns / 1e6, "ms");
  if (ns < 99.95e9) return ThreeDigits(ns / 1e9, "s");
  const uint64_t seconds = value_ns / 1'000'000'000;
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  const uint64_t minutes = seconds / 60;
  if (minutes < 1440) return absl::StrFormat("%dh%02dm", minutes / 60, minutes % 60);
  return absl::StrFormat("%dd%02dh", minutes / 1440, minutes / 60 % 24);
}

}  // namespace tsc_handoff::tscctl
