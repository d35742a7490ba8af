// What the files of /proc/PID say, parsed. Unknown lines are skipped; what is needed and not there
// is nullopt.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_ATTACH_PROC_TEXT_H_
#define TSC_HANDOFF_SERVER_ATTACH_PROC_TEXT_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff::attach {

// /proc/PID/task/TID/status.
struct TaskStatus {
  char state = '?';  // R S D T t Z X I
  pid_t tgid = 0;
  pid_t tracer_pid = 0;
  // As its innermost PID namespace counts; the same as outside where the kernel does not say.
  pid_t inner_tgid = 0;
  pid_t inner_tid = 0;
  int seccomp = 0;  // 0 none, 1 strict, 2 filter
  // Bit n - 1 is signal n.
  uint64_t pending = 0;  // the thread's and the process's
  uint64_t blocked = 0;
  uint64_t ignored = 0;
  uint64_t caught = 0;
};
std::optional<TaskStatus> ParseStatus(absl::string_view text);

// /proc/PID/task/TID/syscall.
struct TaskSyscall {
  bool running = false;  // on a CPU: nothing else is known
  int64_t number = -1;   // -1: in no system call
  std::array<uint64_t, 6> args = {};
};
std::optional<TaskSyscall> ParseSyscall(absl::string_view text);

// A line of /proc/PID/maps.
struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;
  bool readable = false;
  bool executable = false;
  bool shared = false;
  std::string name;
};
// Lines that cannot be read are left out.
std::vector<Mapping> ParseMaps(absl::string_view text);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_PROC_TEXT_H_
