// ManPage: a program's manual page in roff (man(7)).
//
// Threading: a pure function.
#ifndef TSC_HANDOFF_TOOLS_CLIDOC_MAN_PAGE_H_
#define TSC_HANDOFF_TOOLS_CLIDOC_MAN_PAGE_H_

#include <string>
#include <vector>

#include "tools/clidoc/command_doc.h"

namespace tsc_handoff::clidoc {

struct ManHeader {
  int section = 1;
  std::string summary;  // of the line under NAME, for apropos(1)
  std::string version;
  std::vector<std::string> see_also;  // "tscctl(1)"
};

std::string ManPage(const CommandDoc& program, const ManHeader& header);

}  // namespace tsc_handoff::clidoc

#endif  // TSC_HANDOFF_TOOLS_CLIDOC_MAN_PAGE_H_
