#include "tests/fuzz/target.h"

#include <cstdio>
#include <cstdlib>

namespace tsc_handoff::fuzz {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
  std::abort();
}

}  // namespace tsc_handoff::fuzz
