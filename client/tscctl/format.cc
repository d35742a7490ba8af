#include "client/tscctl/format.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace tsc_handoff::tscctl {
namespace {

// Bytes of the UTF-8 character at the beginning of `text`; 0 where there is none.
size_t CharacterSize(absl::string_view text) {
  const auto byte = [text](size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t size = first >= 0xc2 && first < 0xe0   ? 2
                      : first >= 0xe0 && first < 0xf0 ? 3
                      : first >= 0xf0 && first < 0xf5 ? 4
                                                      : 0;
  for (size_t at = 1; at < size; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
  }
  // Longer than it has to be, half of a UTF-16 pair, above the last character.
  const unsigned second = byte(1);
  const bool none = (first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) ||
                    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90);
  return none ? 0 : size;
}

// Of ASCII, or of those from U+0080 to U+009F, which some terminals obey as well.
bool IsControl(absl::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
}

}  // namespace

std::string Thousands(uint64_t value) {
  const std::string digits = absl::StrCat(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string SignedThousands(int64_t value) {
  return (value < 0 ? "-" : "") + Thousands(Absolute(value));
}

uint64_t Absolute(int64_t value) {
  return value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
}

std::string HumanNs(int64_t value_ns) {
  const double ns = static_cast<double>(value_ns);
  const double size = ns < 0 ? -ns : ns;
  if (size < 1e3) return absl::StrCat(value_ns, " ns");
  if (size < 1e6) return absl::StrFormat("%.1f us", ns / 1e3);
  if (size < 1e9) return absl::StrFormat("%.3f ms", ns / 1e6);
  if (size < 600e9) return absl::StrFormat("%.3f s", ns / 1e9);
  return absl::FormatDuration(absl::Trunc(absl::Nanoseconds(value_ns), absl::Seconds(1)));
}

std::string SignedNs(int64_t value_ns) { return (value_ns > 0 ? "+" : "") + HumanNs(value_ns); }

std::string HumanUnsignedNs(uint64_t value_ns) {
  if (value_ns > static_cast<uint64_t>(INT64_MAX)) return absl::StrCat(Thousands(value_ns), " ns");
  return HumanNs(static_cast<int64_t>(value_ns));
}

std::string PlusMinus(uint64_t bound_ns) { return "+-" + HumanUnsignedNs(bound_ns); }

std::string HumanTime(uint64_t realtime_ns) {
  const absl::Time time = absl::UnixEpoch() + absl::Seconds(realtime_ns / 1'000'000'000) +
                          absl::Nanoseconds(realtime_ns % 1'000'000'000);
  return absl::FormatTime("%Y-%m-%d %H:%M:%E3S UTC", time, absl::UTCTimeZone());
}

std::string Hex(absl::string_view bytes) { return absl::BytesToHexString(bytes); }

std::string Printable(absl::string_view text) {
  std::string printable;
  while (!text.empty()) {
    const size_t size = CharacterSize(text);
    const absl::string_view character = text.substr(0, std::max<size_t>(size, 1));
    const bool space = character == "\n" || character == "\t";
    if (space) {
      printable.push_back(' ');
    } else if (size == 0 || IsControl(character)) {
      printable.push_back('?');
    } else {
      printable.append(character.data(), character.size());
    }
    text.remove_prefix(character.size());
  }
  return printable;
}

std::string Palette::Wrap(absl::string_view code, absl::string_view text) const {
  return enabled_ ? absl::StrCat("\x1b[", code, "m", text, "\x1b[0m") : std::string(text);
}

std::string YesOrNo(bool yes, absl::string_view reason, const Palette& palette) {
  if (yes) return palette.Green("yes");
  return palette.Red("no") + (reason.empty() ? "" : absl::StrCat(": ", Printable(reason)));
}

void Table::Print(const Palette& palette, std::ostream& out) const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = columns_[i].title.size();
    for (const std::vector<std::string>& row : rows_) width = std::max(width, row[i].size());
    widths.push_back(width);
  }
  const auto line = [&](auto cell) {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (i != 0) text += "  ";
      const std::string& content = cell(i);
      const std::string padding(widths[i] - content.size(), ' ');
      text += columns_[i].align == Align::kRight ? padding + content : content + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  out << palette.Bold(line([&](size_t i) -> const std::string& { return columns_[i].title; }))
      << "\n";
  for (const std::vector<std::string>& row : rows_) {
    out << line([&](size_t i) -> const std::string& { return row[i]; }) << "\n";
  }
}

void Facts::Add(absl::string_view name, absl::string_view value) {
  facts_.emplace_back(std::string(name), std::string(value));
}

void Facts::Print(std::ostream& out) const {
  size_t width = 0;
  for (const auto& [name, value] : facts_) width = std::max(width, name.size());
  for (const auto& [name, value] : facts_) {
    out << name << std::string(width - name.size() + 2, ' ') << value << "\n";
  }
}

}  // namespace tsc_handoff::tscctl
