#include "tools/clidoc/command_doc.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::clidoc {
namespace {

bool IsPlaceholder(absl::string_view word) {
  return std::any_of(word.begin(), word.end(), absl::ascii_isupper);
}

// "auto|chrony[:ADDRESS]|fixed:DURATION" has the words auto, chrony and fixed:.
std::string ChoiceOf(absl::string_view part) {
  const size_t bracket = part.find('[');
  if (bracket != absl::string_view::npos) return std::string(part.substr(0, bracket));
  const size_t colon = part.find(':');
  if (colon != absl::string_view::npos && IsPlaceholder(part.substr(colon)))
    return std::string(part.substr(0, colon + 1));
  return IsPlaceholder(part) ? "" : std::string(part);
}

// CLI11 writes a set of permitted words as "{a,b}" behind the type's name.
std::vector<std::string> ChoicesOf(absl::string_view type) {
  const size_t open = type.find('{');
  if (open != absl::string_view::npos && absl::EndsWith(type, "}"))
    return absl::StrSplit(type.substr(open + 1, type.size() - open - 2), ',');
  std::vector<std::string> choices;
  if (!absl::StrContains(type, '|')) return choices;
  for (absl::string_view part : absl::StrSplit(type, '|')) {
    if (std::string choice = ChoiceOf(part); !choice.empty()) choices.push_back(std::move(choice));
  }
  return choices;
}

// Without the checks that CLI11 adds behind a colon: "UINT:INT in [1 - 1000]".
std::string ValueOf(const std::string& type) {
  const size_t colon = type.find(':');
  const bool check =
      colon != std::string::npos && !absl::StrContains(type, '|') &&
      (type.find('{', colon) != std::string::npos || type.find(' ', colon) != std::string::npos);
  return check ? type.substr(0, colon) : type;
}

OptionDoc DescribeOption(const CLI::Option& option) {
  OptionDoc doc;
  for (const std::string& name : option.get_snames()) doc.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) doc.names.push_back("--" + name);
  const bool flag = option.get_items_expected_max() == 0;
  const std::string type = option.get_type_name();
  if (!flag) doc.value = ValueOf(type);
  if (!flag) doc.choices = ChoicesOf(type);
  if (option.get_positional()) doc.value = option.get_name(/*positional=*/true, false);
  doc.takes_file = doc.value == "FILE" || doc.value == "PATH";
  doc.required = option.get_required();
  doc.repeats = !flag && option.get_items_expected_max() > 1;
  doc.help = option.get_description();
  return doc;
}

}  // namespace

CommandDoc Describe(const CLI::App& app) {
  CommandDoc doc;
  doc.name = app.get_name();
  doc.description = std::string(absl::StripAsciiWhitespace(app.get_description()));
  doc.footer = app.get_footer();
  doc.options_fall_through = app.get_fallthrough();
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_group().empty()) doc.options.push_back(DescribeOption(*option));  // not hidden
  }
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_group().empty()) doc.commands.push_back(Describe(*command));
  }
  return doc;
}

}  // namespace tsc_handoff::clidoc
