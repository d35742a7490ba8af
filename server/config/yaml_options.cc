#include "server/config/yaml_options.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/config/text_file.h"
#include "server/config/yaml_file.h"

namespace tsc_handoff::config {
namespace {

constexpr size_t kCommentColumns = 96;

// A long name without its dashes; empty when the option has none, or is none of a file's.
std::string KeyOf(const CLI::Option& option, const OptionNames& not_in_file) {
  if (option.get_lnames().empty()) return "";
  const std::string& key = option.get_lnames().front();
  return not_in_file.count(key) > 0 ? "" : key;
}

CLI::Option* Find(CLI::App& app, const std::string& key, const OptionNames& not_in_file) {
  CLI::Option* const option = app.get_option_no_throw("--" + key);
  return option != nullptr && KeyOf(*option, not_in_file) == key ? option : nullptr;
}

// The known key that is most like `key`, to be guessed from a typing error; empty when none is.
std::string Nearest(CLI::App& app, const std::string& key, const OptionNames& not_in_file) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string known = KeyOf(*option, not_in_file);
    if (known.empty()) continue;
    if (absl::StrReplaceAll(absl::AsciiStrToLower(key), {{"_", "-"}}) == known ||
        absl::StartsWith(known, key) || absl::StartsWith(key, known))
      return known;
  }
  return "";
}

bool IsFlag(const CLI::Option& option) { return option.get_expected_max() == 0; }

// Reads the value's words; an error message when it is of the wrong kind.
std::string WordsOf(const YAML::Node& value, const CLI::Option& option,
                    std::vector<std::string>& words) {
  if (value.IsScalar()) {
    words.push_back(value.Scalar());
  } else if (value.IsNull()) {
    return "there is no value";
  } else if (value.IsSequence() && option.get_expected_max() > 1) {
    for (const YAML::Node& item : value) {
      if (!item.IsScalar()) return "a list of words was expected, and one of them is not a word";
      words.push_back(item.Scalar());
    }
  } else {
    return option.get_expected_max() > 1 ? "a word or a list of words was expected"
                                         : "one word was expected, not a list or a map";
  }
  if (IsFlag(option) && words.front() != "true" && words.front() != "false")
    return absl::StrCat("true or false was expected, not \"", words.front(), "\"");
  return "";
}

// Has the option take the words, with its own checks; an error message when they do not pass.
std::string Give(CLI::Option& option, const std::vector<std::string>& words) {
  try {
    if (IsFlag(option)) {
      option.add_result(option.get_flag_value(option.get_lnames().front(), words.front()));
    } else {
      option.add_result(words);
    }
    option.run_callback();
  } catch (const CLI::Error& error) {
    const std::string flag = absl::StrCat("--", option.get_lnames().front(), ": ");
    return std::string(absl::StripPrefix(error.what(), flag));
  }
  return "";
}

// Help as CLI11 has it, "What it is [default]", in its two parts.
void SplitHelp(const std::string& help, std::string& what, std::string& default_value) {
  what = help;
  const size_t open = help.rfind(" [");
  if (open == std::string::npos || help.back() != ']') return;
  what = help.substr(0, open);
  default_value = help.substr(open + 2, help.size() - open - 3);
}

void AppendComment(std::string& out, const std::string& text) {
  std::string line = "#";
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (line.size() + 1 + word.size() > kCommentColumns) {
      absl::StrAppend(&out, line, "\n");
      line = "#";
    }
    absl::StrAppend(&line, " ", word);
  }
  absl::StrAppend(&out, line, "\n");
}

}  // namespace

std::string ApplyYamlMap(CLI::App& app, const YAML::Node& map, const std::string& name,
                         const OptionNames& not_in_file, const OptionNames& read_elsewhere) {
  std::set<std::string> seen;
  for (const auto& entry : map) {
    const YAML::Node& key_node = entry.first;
    const YAML::Node& value = entry.second;
    if (!key_node.IsScalar()) return AtLine(name, key_node.Mark(), "a key must be a word");
    const std::string key = key_node.Scalar();
    if (read_elsewhere.count(key) > 0) continue;
    CLI::Option* const option = Find(app, key, not_in_file);
    if (option == nullptr) {
      const std::string nearest = Nearest(app, key, not_in_file);
      return AtLine(name, key_node.Mark(),
                    absl::StrCat(key, ": no such setting",
                                 nearest.empty() ? "; each flag's name is one, see --help"
                                                 : absl::StrCat("; is ", nearest, " meant?")));
    }
    if (!seen.insert(key).second)
      return AtLine(name, key_node.Mark(), absl::StrCat(key, ": it is there twice"));
    std::vector<std::string> words;
    std::string problem = WordsOf(value, *option, words);
    // What the command line says counts, and what the file says must be right all the same.
    if (problem.empty() && option->count() == 0 && !words.empty()) problem = Give(*option, words);
    if (!problem.empty()) return AtLine(name, key_node.Mark(), absl::StrCat(key, ": ", problem));
  }
  return "";
}

std::string ApplyYamlText(CLI::App& app, const std::string& text, const std::string& name,
                          const OptionNames& not_in_file) {
  std::string problem;
  const std::optional<YAML::Node> map = ParseYamlMap(text, name, problem);
  return map.has_value() ? ApplyYamlMap(app, *map, name, not_in_file) : problem;
}

std::string ApplyYaml(CLI::App& app, const std::string& path, const OptionNames& not_in_file) {
  const auto text = ReadTextFile(path);
  return text.ok() ? ApplyYamlText(app, *text, path, not_in_file)
                   : std::string(text.status().message());
}

std::string ExampleYaml(const CLI::App& app, const OptionNames& not_in_file) {
  std::string out;
  for (const CLI::Option* option : app.get_options()) {
    const std::string key = KeyOf(*option, not_in_file);
    if (key.empty()) continue;
    std::string what;
    std::string default_value;
    SplitHelp(option->get_description(), what, default_value);
    absl::StrAppend(&out, "\n");
    AppendComment(out, absl::StrCat(what, "."));
    if (!IsFlag(*option)) AppendComment(out, option->get_type_name());
    if (IsFlag(*option)) default_value = "false";
    absl::StrAppend(&out, "#", key, ":", default_value.empty() ? "" : " ", default_value, "\n");
  }
  return out;
}

std::map<std::string, std::string> GivenOptions(const CLI::App& app) {
  std::map<std::string, std::string> given;
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() > 0 && !option->get_lnames().empty())
      given[option->get_lnames().front()] = absl::StrJoin(option->results(), " ");
  }
  return given;
}

}  // namespace tsc_handoff::config
