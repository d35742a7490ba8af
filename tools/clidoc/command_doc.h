// CommandDoc: what a program's command line consists of, taken from the CLI11 definition that also
// parses it. Manual page and shell completions are made of it, so that no flag is described twice.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_TOOLS_CLIDOC_COMMAND_DOC_H_
#define TSC_HANDOFF_TOOLS_CLIDOC_COMMAND_DOC_H_

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace tsc_handoff::clidoc {

struct OptionDoc {
  // "-o" and "--output"; empty for a positional argument.
  std::vector<std::string> names = {};
  // "PATH", or "table|json"; empty for a flag. The name of a positional argument.
  std::string value = "";
  // The words that may stand for the value, where they are known.
  std::vector<std::string> choices = {};
  bool takes_file = false;
  bool required = false;
  bool repeats = false;
  std::string help = "";

  bool positional() const { return names.empty(); }
};

struct CommandDoc {
  std::string name;
  std::string description;
  // Free text below the options: paragraphs, the first line of some being a title ("Examples:").
  std::string footer;
  std::vector<OptionDoc> options;
  std::vector<CommandDoc> commands;
  // Options of this command may also stand behind the words of its commands.
  bool options_fall_through = false;
};

CommandDoc Describe(const CLI::App& app);

}  // namespace tsc_handoff::clidoc

#endif  // TSC_HANDOFF_TOOLS_CLIDOC_COMMAND_DOC_H_
