#include "tests/simulate/context.h"

#include <cstdio>

namespace tsc_handoff::simulate {

void Context::Print(const std::string& line) {
  char time[32];
  std::snprintf(time, sizeof(time), "%12.6f ms  ",
                static_cast<double>(world_.now_ps()) / static_cast<double>(kPsPerMs));
  *trace_ << time << line << "\n";
}

}  // namespace tsc_handoff::simulate
