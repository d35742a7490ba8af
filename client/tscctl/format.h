// How tscctl writes figures, tables and text that came from elsewhere.
//
// Threading: pure functions and values.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_FORMAT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_FORMAT_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff::tscctl {

// 1234567 as "1,234,567".
std::string Thousands(uint64_t value);
std::string SignedThousands(int64_t value);

// |value|, for which the lowest int64 needs unsigned.
uint64_t Absolute(int64_t value);

// A duration in the unit that suits it: "870 ns", "40.3 us", "50.000 ms", "12.500 s".
std::string HumanNs(int64_t value_ns);

// The same with a plus in front of what is above 0: "+1.5 us".
std::string SignedNs(int64_t value_ns);

// The same of an unsigned field; one that no signed duration can hold says more as it is:
// "18,446,744,073,709,551,615 ns".
std::string HumanUnsignedNs(uint64_t value_ns);

// A half-width or a bound: "+-40.3 us".
std::string PlusMinus(uint64_t bound_ns);

// Nanoseconds since 1970 as "2023-11-14 22:13:20.000 UTC".
std::string HumanTime(uint64_t realtime_ns);

// Bytes as lower-case hexadecimal.
std::string Hex(absl::string_view bytes);

// `text` on one line, without control characters and as UTF-8: what agents and files say must not
// steer a terminal.
std::string Printable(absl::string_view text);

// ANSI colours, or nothing.
class Palette {
 public:
  explicit Palette(bool enabled) : enabled_(enabled) {}
  std::string Bold(absl::string_view text) const { return Wrap("1", text); }
  std::string Red(absl::string_view text) const { return Wrap("1;31", text); }
  std::string Yellow(absl::string_view text) const { return Wrap("33", text); }
  std::string Green(absl::string_view text) const { return Wrap("32", text); }

 private:
  std::string Wrap(absl::string_view code, absl::string_view text) const;

  bool enabled_;
};

// "yes" in green, or "no: REASON" with the no in red.
std::string YesOrNo(bool yes, absl::string_view reason, const Palette& palette);

// Aligned columns; no column is ever cut or wrapped.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // One cell for each column.
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void Print(const Palette& palette, std::ostream& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name   value" lines with the values in one column.
class Facts {
 public:
  void Add(absl::string_view name, absl::string_view value);
  void Print(std::ostream& out) const;

 private:
  std::vector<std::pair<std::string, std::string>> facts_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_FORMAT_H_
