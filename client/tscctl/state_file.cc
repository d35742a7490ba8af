#include "client/tscctl/state_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "client/lib/state_view.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

// A state's payload has at most 256 KiB.
constexpr size_t kMaxFileBytes = 300 * 1024;

absl::Status FileError(int error, absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", what, " ", path));
}

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

absl::Status WriteTemporary(int fd, absl::string_view bytes, const std::string& temporary) {
  if (absl::Status status = WriteAll(fd, bytes, temporary); !status.ok()) return status;
  // Before it gets its name: after a power failure an empty file of the right name would look like
  // a state.
  if (fsync(fd) != 0) return FileError(errno, "flush", temporary);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckFree(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) == 0)
    return absl::AlreadyExistsError(absl::StrCat(path, " exists already"));
  if (errno != ENOENT) return FileError(errno, "create", path);
  if (access(DirectoryOf(path).c_str(), W_OK | X_OK) != 0)
    return FileError(errno, "write in directory of", path);
  return absl::OkStatus();
}

absl::Status WriteStateFile(const std::string& path, const v1::TscState& state, bool overwrite) {
  // In the same directory, for rename works within one file system only. mkstemp creates it with
  // mode 0600.
  std::string temporary = path + ".XXXXXX";
  const int fd = mkstemp(temporary.data());
  if (fd < 0) return FileError(errno, "create a temporary file beside", path);
  absl::Status status = WriteTemporary(fd, state.SerializeAsString(), temporary);
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

absl::StatusOr<v1::TscState> ReadStateFile(const std::string& path) {
  // O_NONBLOCK: a FIFO that nobody writes to must not hold us; for files it means nothing.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError(errno, "open", path);
  const absl::Cleanup close_file = [fd] { close(fd); };
  std::string bytes(kMaxFileBytes + 1, '\0');
  size_t length = 0;
  while (length < bytes.size()) {
    const ssize_t got = read(fd, bytes.data() + length, bytes.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(errno, "read", path);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  bytes.resize(length);
  if (bytes.empty()) return absl::DataLossError(absl::StrCat(path, " is empty"));
  if (bytes.size() > kMaxFileBytes) {
    return absl::DataLossError(
        absl::StrCat(path, " is no TSC state: it is larger than ", kMaxFileBytes, " bytes"));
  }
  v1::TscState state;
  if (!state.ParseFromString(bytes) || state.format_version() == 0 || state.payload().empty()) {
    return absl::DataLossError(
        absl::StrCat(path, " is no TSC state as `tscctl get --out` writes it"));
  }
  const absl::Status check = client::DecodeState(state).status();
  const bool newer =
      state.format_version() != 1 && client::ReasonOf(check) == v1::STATE_VERSION_UNSUPPORTED;
  if (!check.ok() && !newer) return client::Annotate(check, path);
  return state;
}

}  // namespace tsc_handoff::tscctl
