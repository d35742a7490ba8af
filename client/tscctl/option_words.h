// The command line's words as they were typed, before check_options.h makes options of them.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_OPTION_WORDS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_OPTION_WORDS_H_

#include <string>

namespace tsc_handoff::tscctl {

struct OptionWords {
  std::string timeout = "5s";
  std::string output = "table";
  std::string mode;
  std::string max_error;
  std::string max_elapsed;
  std::string to_vm;
  std::string wait = "25s";
  std::string interval = "1s";
  // Which contexts, and which of them; empty for the usual ones.
  std::string config;
  std::string context;
  bool example = false;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_OPTION_WORDS_H_
