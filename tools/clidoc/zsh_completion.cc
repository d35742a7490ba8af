#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "tools/clidoc/completion.h"

namespace tsc_handoff::clidoc {
namespace {

std::string Quoted(const std::string& word) {
  return absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
}

// Inside of an _arguments specification.
std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"\\", "\\\\"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}, {"\n", " "}});
}

std::string Action(const OptionDoc& option) {
  if (option.takes_file) return "_files";
  if (option.choices.empty()) return " ";
  return absl::StrCat("(", absl::StrReplaceAll(absl::StrJoin(option.choices, " "), {{":", "\\:"}}),
                      ")");
}

// The lines of an _arguments call for `options`.
std::string Arguments(const std::vector<OptionDoc>& options, const std::string& indent) {
  std::string out;
  for (const OptionDoc& option : options) {
    const std::string value =
        option.value.empty() ? "" : absl::StrCat(":", Escaped(option.value), ":", Action(option));
    if (option.positional()) {
      absl::StrAppend(
          &out, " \\\n", indent,
          Quoted(absl::StrCat(option.repeats ? "*" : "", option.required ? "" : ":", value)));
      continue;
    }
    const std::string others = absl::StrCat("(", absl::StrJoin(option.names, " "), ")");
    for (const std::string& name : option.names) {
      const bool assign = !option.value.empty() && name.size() > 2;
      absl::StrAppend(&out, " \\\n", indent,
                      Quoted(absl::StrCat(option.repeats ? "*" : others, name, assign ? "=" : "",
                                          "[", Escaped(option.help), "]", value)));
    }
  }
  return out;
}

std::string FunctionName(const CommandDoc& program) {
  return absl::StrCat("_", absl::StrReplaceAll(program.name, {{"-", "_"}}));
}

std::string Simple(const CommandDoc& program) {
  return absl::StrCat("  _arguments", Arguments(program.options, "    "), "\n");
}

std::string WithCommands(const CommandDoc& program) {
  std::string out = absl::StrCat(
      "  local curcontext=$curcontext state line\n"
      "  typeset -A opt_args\n"
      "  _arguments -C",
      Arguments(program.options, "    "),
      " \\\n    '1: :->command' \\\n    '*:: :->arguments'\n"
      "  case $state in\n"
      "    command)\n"
      "      local -a commands\n"
      "      commands=(\n");
  for (const CommandDoc& command : program.commands) {
    absl::StrAppend(&out, "        ",
                    Quoted(absl::StrCat(command.name, ":", Escaped(command.description))), "\n");
  }
  absl::StrAppend(&out,
                  "      )\n"
                  "      _describe -t commands command commands\n"
                  "      ;;\n"
                  "    arguments)\n"
                  "      case $words[1] in\n");
  for (const CommandDoc& command : program.commands) {
    std::vector<OptionDoc> options = command.options;
    for (const OptionDoc& option : program.options) {
      const bool told = option.names == std::vector<std::string>{"-h", "--help"};
      if (program.options_fall_through && !told) options.push_back(option);
    }
    absl::StrAppend(&out, "        ", command.name, ")\n          _arguments",
                    Arguments(options, "            "), "\n          ;;\n");
  }
  return absl::StrCat(out,
                      "      esac\n"
                      "      ;;\n"
                      "  esac\n");
}

}  // namespace

std::string ZshCompletion(const CommandDoc& program) {
  const std::string function = FunctionName(program);
  return absl::StrCat("#compdef ", program.name,
                      "\n# Generated from the definition of the command line; do not edit.\n",
                      function, "() {\n",
                      program.commands.empty() ? Simple(program) : WithCommands(program), "}\n",
                      function, " \"$@\"\n");
}

}  // namespace tsc_handoff::clidoc
