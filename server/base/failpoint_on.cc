// What makes a test's program die at the failpoint that its environment names; see failpoint.h.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "server/base/failpoint.h"

namespace {

struct Armed {
  std::string name;
  std::atomic<int> passes_left{1};

  Armed() {
    const char* const setting = std::getenv("TSC_HANDOFF_FAILPOINT");
    if (setting == nullptr) return;
    name = setting;
    const size_t colon = name.find(':');
    if (colon == std::string::npos) return;
    passes_left = std::atoi(name.c_str() + colon + 1);
    name.resize(colon);
  }
};

}  // namespace

extern "C" void tsc_handoff_failpoint(const char* name) {
  static Armed armed;
  if (armed.name != name || --armed.passes_left != 0) return;
  kill(getpid(), SIGKILL);
  for (;;) pause();  // the signal may reach another thread first
}
