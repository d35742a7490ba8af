#include "server/confine/core_dumps.h"

#include <sys/prctl.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::confine {

absl::Status ForbidCoreDumps() {
  // Not RLIMIT_CORE, which does not bind a core_pattern that is a pipe.
  if (prctl(PR_SET_DUMPABLE, 0) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("prctl(PR_SET_DUMPABLE): ", std::strerror(errno)));
}

}  // namespace tsc_handoff::confine
