#include "tools/clidoc/write_doc.h"

#include <cstdio>
#include <string>

#include "tools/clidoc/completion.h"

namespace tsc_handoff::clidoc {

int WriteDoc(int argc, char** argv, const CommandDoc& program, const ManHeader& header) {
  const std::string what = argc == 2 ? argv[1] : "";
  std::string text;
  if (what == "man") text = ManPage(program, header);
  if (what == "bash") text = BashCompletion(program);
  if (what == "zsh") text = ZshCompletion(program);
  if (text.empty()) {
    std::fprintf(stderr, "usage: %s man|bash|zsh\n", argv[0]);
    return 2;
  }
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace tsc_handoff::clidoc
