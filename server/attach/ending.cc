#include "server/attach/ending.h"

#include <signal.h>

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/attach/proc_text.h"

namespace tsc_handoff::attach {

bool IsEnding(const Target& target, pid_t tid) {
  constexpr uint64_t kKilled = uint64_t{1} << (SIGKILL - 1);
  auto text = target.Read(absl::StrCat("task/", tid, "/status"));
  if (!text.ok() || !absl::StrContains(*text, "VmSize:")) return true;
  const std::optional<TaskStatus> status = ParseStatus(*text);
  return status && (status->pending & kKilled) != 0;
}

}  // namespace tsc_handoff::attach
