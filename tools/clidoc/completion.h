// Completion scripts for bash and zsh, made of a program's command line. They complete options,
// commands, the words that an option takes, and names of files where one is wanted. Neither asks
// an agent for anything.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_TOOLS_CLIDOC_COMPLETION_H_
#define TSC_HANDOFF_TOOLS_CLIDOC_COMPLETION_H_

#include <string>

#include "tools/clidoc/command_doc.h"

namespace tsc_handoff::clidoc {

// To be sourced, or installed as /usr/share/bash-completion/completions/NAME.
std::string BashCompletion(const CommandDoc& program);

// To be installed as _NAME in a directory of zsh's fpath.
std::string ZshCompletion(const CommandDoc& program);

}  // namespace tsc_handoff::clidoc

#endif  // TSC_HANDOFF_TOOLS_CLIDOC_COMPLETION_H_
