#include "server/base/socket_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace tsc_handoff {

absl::StatusOr<SocketLock> SocketLock::Take(const std::string& socket_path) {
  if (socket_path.empty() || socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the socket path \"", socket_path, "\" has ", socket_path.size(),
                     " bytes; a Unix socket's path has 1 to ", sizeof(sockaddr_un::sun_path) - 1));
  }
  // /run is empty after a boot. Only the last directory is made: a path that is wrong further up is
  // a mistake.
  const size_t slash = socket_path.rfind('/');
  if (slash != std::string::npos && slash > 0)
    (void)mkdir(socket_path.substr(0, slash).c_str(), 0750);
  const std::string lock_path = absl::StrCat(socket_path, ".lock");
  UniqueFd lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot create ", lock_path, ": ", strerror(errno),
                     "; does the directory exist and may this user write there?"));
  }
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::AlreadyExistsError(absl::StrCat("another tsc-agent already serves ", socket_path,
                                                 "; stop it, or choose another path"));
  }
  struct stat info;
  if (lstat(socket_path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat(socket_path, " exists and is no socket; remove it, or choose another path"));
    }
    unlink(socket_path.c_str());
  }
  return SocketLock(socket_path, std::move(lock));
}

SocketLock::~SocketLock() {
  if (lock_.valid()) unlink(socket_path_.c_str());
}

}  // namespace tsc_handoff
