#include "tools/clidoc/man_page.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::clidoc {
namespace {

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}, {"'", "\\(aq"}, {"~", "\\(ti"}});
}

// A line that begins with a dot would be a request; "\&" has no width.
std::string Line(absl::string_view text) {
  const std::string escaped = Escape(text);
  return absl::StrCat(absl::StartsWith(escaped, ".") ? "\\&" : "", escaped, "\n");
}

std::string Bold(absl::string_view text) { return absl::StrCat("\\fB", Escape(text), "\\fR"); }
std::string Italic(absl::string_view text) { return absl::StrCat("\\fI", Escape(text), "\\fR"); }

std::string Tag(const OptionDoc& option) {
  if (option.positional()) return Italic(option.value);
  const std::string names = absl::StrJoin(
      option.names, ", ",
      [](std::string* out, const std::string& name) { absl::StrAppend(out, Bold(name)); });
  return option.value.empty() ? names : absl::StrCat(names, " ", Italic(option.value));
}

std::string Options(const std::vector<OptionDoc>& options) {
  std::string out;
  for (const OptionDoc& option : options) {
    absl::StrAppend(&out, ".TP\n", Tag(option), "\n", Line(option.help));
    if (option.required && !option.positional()) absl::StrAppend(&out, "Required.\n");
    if (option.repeats && !absl::StrContains(option.help, "repeated"))
      absl::StrAppend(&out, "May be repeated.\n");
    // In the value's name such words are to be seen already.
    if (!option.choices.empty() && !absl::StrContains(option.value, '|'))
      absl::StrAppend(&out, "One of ", Escape(absl::StrJoin(option.choices, ", ")), ".\n");
  }
  return out;
}

std::string Paragraphs(absl::string_view text) {
  std::string out;
  for (absl::string_view paragraph : absl::StrSplit(text, "\n\n")) {
    absl::StrAppend(&out, ".PP\n");
    for (absl::string_view line : absl::StrSplit(paragraph, '\n', absl::SkipWhitespace()))
      absl::StrAppend(&out, Line(absl::StripAsciiWhitespace(line)));
  }
  return out;
}

// "Examples:" on a line of its own, or "Exit status: 0 stopped by ..."; npos without a title.
size_t TitleEnd(absl::string_view block) {
  const size_t colon = block.find(':');
  if (colon == absl::string_view::npos) return colon;
  const bool alone = colon + 1 == block.size() || block[colon + 1] == '\n';
  if (!alone && !absl::StartsWith(block, "Exit ")) return absl::string_view::npos;
  for (char c : block.substr(0, colon)) {
    if (!absl::ascii_isalpha(static_cast<unsigned char>(c)) && c != ' ')
      return absl::string_view::npos;
  }
  return colon;
}

std::string Verbatim(absl::string_view text) {
  std::string out = ".PP\n.nf\n";
  for (absl::string_view line : absl::StrSplit(text, '\n')) absl::StrAppend(&out, Line(line));
  return absl::StrCat(out, ".fi\n");
}

// The footer keeps its lines: its tables and examples are laid out by hand. `told` has paragraphs
// that the page shows elsewhere and that are left out here.
std::string Footer(absl::string_view footer, absl::string_view heading_request,
                   absl::string_view told = "") {
  std::string out;
  bool notes = false;
  for (absl::string_view block : absl::StrSplit(footer, "\n\n")) {
    block = absl::StripTrailingAsciiWhitespace(block);
    if (absl::StripAsciiWhitespace(block).empty() || absl::StrContains(told, block)) continue;
    const size_t title = TitleEnd(block);
    if (title != absl::string_view::npos) {
      absl::StrAppend(&out, heading_request, " ",
                      Escape(absl::AsciiStrToUpper(block.substr(0, title))), "\n");
      block = block.substr(title + 1);
      block.remove_prefix(block.empty() ? 0 : 1);  // the line break, or a blank
      notes = false;
    } else if (!notes) {
      absl::StrAppend(&out, heading_request, " NOTES\n");
      notes = true;
    }
    absl::StrAppend(&out, Verbatim(block));
  }
  return out;
}

std::string Synopsis(const CommandDoc& program) {
  std::string out = absl::StrCat(".B ", Escape(program.name), "\n[\\fIOPTION\\fR]...");
  if (!program.commands.empty()) absl::StrAppend(&out, " \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...");
  for (const OptionDoc& option : program.options) {
    if (option.positional()) absl::StrAppend(&out, " ", Italic(option.value));
  }
  return absl::StrCat(out, "\n");
}

std::string Command(const CommandDoc& command, absl::string_view told) {
  std::string heading = Bold(command.name);
  std::vector<OptionDoc> shown;
  for (const OptionDoc& option : command.options) {
    if (option.names == std::vector<std::string>{"-h", "--help"}) continue;  // told once, above
    if (option.positional()) {
      absl::StrAppend(&heading, option.required ? " " : " [", Italic(option.value),
                      option.required ? "" : "]");
    }
    shown.push_back(option);
  }
  return absl::StrCat(".SS ", heading, "\n", Paragraphs(command.description), Options(shown),
                      Footer(command.footer, ".PP\n.B", told));
}

}  // namespace

std::string ManPage(const CommandDoc& program, const ManHeader& header) {
  std::string out = absl::StrCat(
      ".\\\" Generated from the definition of the command line; do not edit.\n.TH ",
      Escape(absl::AsciiStrToUpper(program.name)), " ", header.section, " \"\" \"tsc\\-handoff ",
      Escape(header.version), "\"\n.SH NAME\n", Escape(program.name), " \\- ",
      Escape(header.summary), "\n.SH SYNOPSIS\n", Synopsis(program), ".SH DESCRIPTION\n",
      Paragraphs(program.description), ".SH OPTIONS\n", Options(program.options));
  if (!program.commands.empty()) {
    absl::StrAppend(&out, ".SH COMMANDS\n");
    for (const CommandDoc& command : program.commands)
      absl::StrAppend(&out, Command(command, program.footer));
  }
  absl::StrAppend(&out, Footer(program.footer, ".SH"));
  if (!header.see_also.empty()) {
    absl::StrAppend(&out, ".SH \"SEE ALSO\"\n", Escape(absl::StrJoin(header.see_also, ", ")), "\n");
  }
  return out;
}

}  // namespace tsc_handoff::clidoc
