// What the programs that generate documentation have in common: `PROGRAM man|bash|zsh` prints it.
//
// Threading: main's thread.
#ifndef TSC_HANDOFF_TOOLS_CLIDOC_WRITE_DOC_H_
#define TSC_HANDOFF_TOOLS_CLIDOC_WRITE_DOC_H_

#include "tools/clidoc/command_doc.h"
#include "tools/clidoc/man_page.h"

namespace tsc_handoff::clidoc {

// Prints to stdout what argv[1] names. Returns the exit status: 0, 2 for wrong usage.
int WriteDoc(int argc, char** argv, const CommandDoc& program, const ManHeader& header);

}  // namespace tsc_handoff::clidoc

#endif  // TSC_HANDOFF_TOOLS_CLIDOC_WRITE_DOC_H_
