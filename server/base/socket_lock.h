// SocketLock: makes sure that one process at a time serves a Unix socket's path. A socket left
// behind by a process that died is removed; one that is served is not touched. (gRPC by itself
// removes either.)
//
// The lock is flock(2) on PATH.lock, which the kernel drops when the process dies. Not thread-safe.
#ifndef TSC_HANDOFF_SERVER_BASE_SOCKET_LOCK_H_
#define TSC_HANDOFF_SERVER_BASE_SOCKET_LOCK_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff {

class SocketLock {
 public:
  // Takes the lock and removes a stale socket. Makes the directory, with mode 0750, where its
  // parent is there. Errors (without a Reason; they end the start of an agent): path longer than
  // 107 bytes, another agent has it, the path is something else than a socket, the directory cannot
  // be written.
  static absl::StatusOr<SocketLock> Take(const std::string& socket_path);

  SocketLock(SocketLock&&) = default;
  SocketLock& operator=(SocketLock&&) = default;
  // Removes the socket; the lock file stays, since removing it would race with the next owner.
  ~SocketLock();

 private:
  SocketLock(std::string socket_path, UniqueFd lock)
      : socket_path_(std::move(socket_path)), lock_(std::move(lock)) {}

  std::string socket_path_;
  UniqueFd lock_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_SOCKET_LOCK_H_
