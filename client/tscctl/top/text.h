// Text in cells: how wide it is, and how it is made to fit. Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_TEXT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff::tscctl {

// What agents say, on one line and with a "?" for every character that is not printable ASCII, so
// that its width is known on every terminal.
std::string AsciiText(absl::string_view text);

// Cells that UTF-8 text takes, with one for each character.
size_t TextWidth(absl::string_view text);

// `text` in exactly `width` cells: padded, or cut with `ellipsis` (one cell) at its end.
std::string FitLeft(absl::string_view text, size_t width, absl::string_view ellipsis);
std::string FitRight(absl::string_view text, size_t width, absl::string_view ellipsis);

// `text` broken at spaces into lines of at most `width` cells; longer words are broken anywhere.
std::vector<std::string> Wrapped(absl::string_view text, size_t width);

// A duration in three digits or so: "870 ns", "40.3 us", "1.20 s", "2m05s", "3h12m", "5d04h".
std::string ShortNs(uint64_t value_ns);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_TEXT_H_
