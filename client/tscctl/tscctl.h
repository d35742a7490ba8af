// tscctl as a function, so that tests need no subprocess.
//
// Threading: one call at a time for each pair of streams.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TSCCTL_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TSCCTL_H_

#include <map>
#include <ostream>
#include <string>
#include <vector>

namespace tsc_handoff::tscctl {

struct Environment {
  // TSC_AGENT and NO_COLOR matter.
  std::map<std::string, std::string> variables = {};
  bool stdout_is_terminal = false;
  bool stderr_is_terminal = false;
  // What stands behind `out`; -1 where that is no descriptor.
  int stdout_fd = -1;
};

// Runs tscctl with `args` (without the program's name) and returns its exit code.
int RunTscctl(const std::vector<std::string>& args, std::ostream& out, std::ostream& err,
              const Environment& environment);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TSCCTL_H_
