#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "tools/clidoc/completion.h"

namespace tsc_handoff::clidoc {
namespace {

// Options that may stand behind the words of `command`: its own, and its ancestors' that fall
// through.
using Inherited = std::vector<OptionDoc>;

std::string Quoted(const std::string& word) {
  return absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
}

// Parts of the script, one line each, in the order of a walk over all commands.
struct Parts {
  std::string descend;  // case COMMAND:WORD -> the command that it leads to
  std::string values;   // case COMMAND:OPTION -> how its value is completed
  std::string words;    // case COMMAND -> its options and commands
};

std::string ValueAction(const OptionDoc& option) {
  if (option.takes_file) return "compopt -o default; return";
  if (option.choices.empty()) return "return";
  return absl::StrCat("COMPREPLY=($(compgen -W ", Quoted(absl::StrJoin(option.choices, " ")),
                      " -- \"$cur\")); return");
}

void Walk(const CommandDoc& command, const std::string& path, const Inherited& inherited,
          Parts* parts) {
  Inherited options = command.options;
  options.insert(options.end(), inherited.begin(), inherited.end());
  std::vector<std::string> words;
  bool file = false;
  for (const OptionDoc& option : options) {
    file = file || (option.positional() && option.takes_file);
    for (const std::string& name : option.names) {
      words.push_back(name);
      if (option.value.empty()) continue;
      absl::StrAppend(&parts->values, "    ", Quoted(absl::StrCat(path, ":", name)), ") ",
                      ValueAction(option), " ;;\n");
    }
  }
  for (const CommandDoc& child : command.commands) {
    const std::string child_path = absl::StrCat(path, " ", child.name);
    words.push_back(child.name);
    absl::StrAppend(&parts->descend, "      ", Quoted(absl::StrCat(path, ":", child.name)),
                    ") command=", Quoted(child_path), " ;;\n");
    Walk(child, child_path, command.options_fall_through ? options : Inherited(), parts);
  }
  absl::StrAppend(&parts->words, "    ", Quoted(path),
                  ") words=", Quoted(absl::StrJoin(words, " ")), file ? "; file=1" : "", " ;;\n");
}

// In a case pattern of the loop: the values' words again, without what is done.
std::string SkipValues(const Parts& parts) {
  std::string out;
  for (size_t begin = 0; begin < parts.values.size();) {
    const size_t end = parts.values.find('\n', begin);
    const std::string line = parts.values.substr(begin, end - begin);
    absl::StrAppend(&out, "  ", line.substr(0, line.find(") ")), ") ((++i)) ;;\n");
    begin = end + 1;
  }
  return out;
}

}  // namespace

std::string BashCompletion(const CommandDoc& program) {
  Parts parts;
  Walk(program, program.name, {}, &parts);
  const std::string function = absl::StrCat("_", absl::StrReplaceAll(program.name, {{"-", "_"}}));
  return absl::StrCat(
      "# bash completion of ", program.name,
      ". Generated from the definition of the command line; do not edit.\n", function,
      "() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=",
      Quoted(program.name),
      " words='' file='' i\n"
      "  COMPREPLY=()\n"
      "  # --option=value comes as three words.\n"
      "  if [[ $cur == = ]]; then\n"
      "    cur=''\n"
      "  elif [[ $prev == = ]]; then\n"
      "    prev=${COMP_WORDS[COMP_CWORD-2]}\n"
      "  fi\n"
      "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
      "    case \"$command:${COMP_WORDS[i]}\" in\n",
      parts.descend, SkipValues(parts),
      "    esac\n"
      "  done\n"
      "  case \"$command:$prev\" in\n",
      parts.values,
      "  esac\n"
      "  case $command in\n",
      parts.words,
      "  esac\n"
      "  if [[ -n $file && $cur != -* ]]; then\n"
      "    compopt -o default\n"
      "    return\n"
      "  fi\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
      "}\n"
      "complete -F ",
      function, " ", program.name, "\n");
}

}  // namespace tsc_handoff::clidoc
