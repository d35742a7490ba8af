#include "client/tscctl/whole_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::tscctl {
namespace {

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno, "write", path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

// Gives the finished temporary file its name.
absl::Status Publish(const std::string& temporary, const std::string& path, bool overwrite) {
  if (overwrite) {
    return rename(temporary.c_str(), path.c_str()) == 0 ? absl::OkStatus()
                                                        : FileError(errno, "replace", path);
  }
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0)
    return absl::OkStatus();
  if (errno != EINVAL) return FileError(errno, "create", path);
  // Some file systems (NFS) have no RENAME_NOREPLACE; a hard link never replaces either.
  if (link(temporary.c_str(), path.c_str()) != 0) return FileError(errno, "create", path);
  unlink(temporary.c_str());
  return absl::OkStatus();
}

absl::Status WriteTemporary(int fd, absl::string_view bytes, mode_t mode,
                            const std::string& temporary) {
  if (fchmod(fd, mode) != 0) return FileError(errno, "change the mode of", temporary);
  if (absl::Status status = WriteAll(fd, bytes, temporary); !status.ok()) return status;
  // Before it gets its name: after a power failure an empty file of the right name would look like
  // what was written.
  if (fsync(fd) != 0) return FileError(errno, "flush", temporary);
  return absl::OkStatus();
}

}  // namespace

absl::Status FileError(int error, absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", what, " ", path));
}

absl::Status CheckFree(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) == 0)
    return absl::AlreadyExistsError(absl::StrCat(path, " exists already"));
  if (errno != ENOENT) return FileError(errno, "create", path);
  if (access(DirectoryOf(path).c_str(), W_OK | X_OK) != 0)
    return FileError(errno, "write in directory of", path);
  return absl::OkStatus();
}

absl::Status WriteWholeFile(const std::string& path, absl::string_view bytes, bool overwrite,
                            mode_t mode) {
  // In the same directory, for rename works within one file system only.
  std::string temporary = path + ".XXXXXX";
  const int fd = mkstemp(temporary.data());
  if (fd < 0) return FileError(errno, "create a temporary file beside", path);
  absl::Status status = WriteTemporary(fd, bytes, mode, temporary);
  if (close(fd) != 0 && status.ok()) status = FileError(errno, "close", temporary);
  if (status.ok()) status = Publish(temporary, path, overwrite);
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  const int directory = open(DirectoryOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return FileError(errno, "open the directory of", path);
  const absl::Cleanup close_directory = [directory] { close(directory); };
  if (fsync(directory) != 0) return FileError(errno, "flush the directory of", path);
  return absl::OkStatus();
}

}  // namespace tsc_handoff::tscctl
