// Target: one process of this host, held by a pidfd and its /proc directory. Neither can come to
// mean another process when the pid is used again.
//
// Errors: kVmmGone when the process has ended, kAttachRefused when this process may not look at
// it.
//
// Threading: may be used from any thread.
#ifndef TSC_HANDOFF_SERVER_ATTACH_TARGET_H_
#define TSC_HANDOFF_SERVER_ATTACH_TARGET_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::attach {

class Target {
 public:
  static absl::StatusOr<Target> Open(pid_t pid);

  pid_t pid() const { return pid_; }
  // False once it has ended, also while nobody has waited for it.
  bool Alive() const;
  // OK while it lives.
  absl::Status CheckAlive() const;

  // The content of a file below /proc/PID, for example "task/17/status".
  absl::StatusOr<std::string> Read(const std::string& file) const;
  // Where the symbolic link points to, for example of "fd/3".
  absl::StatusOr<std::string> ReadLink(const std::string& file) const;
  // The numbers that name the entries of a directory below /proc/PID, ascending; "task" or "fd".
  absl::StatusOr<std::vector<int>> List(const std::string& directory) const;

  // A descriptor of this process for what the target's descriptor `fd` is of.
  absl::StatusOr<UniqueFd> Duplicate(int fd) const;
  // The target's memory, to be read and written with pread and pwrite, also where it is
  // write-protected.
  absl::StatusOr<UniqueFd> OpenMemory() const;

 private:
  Target(pid_t pid, UniqueFd pidfd, UniqueFd directory)
      : pid_(pid), pidfd_(std::move(pidfd)), directory_(std::move(directory)) {}
  absl::Status Failure(const std::string& what, int error) const;

  pid_t pid_;
  UniqueFd pidfd_;
  UniqueFd directory_;
};

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_TARGET_H_
