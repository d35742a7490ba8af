#include "server/attach/target.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace tsc_handoff::attach {
namespace {

absl::Status Gone(pid_t pid) {
  return Error(Reason::kVmmGone, absl::StrCat("process ", pid, " has ended"),
               {{"pid", absl::StrCat(pid)}});
}

}  // namespace

absl::StatusOr<Target> Target::Open(pid_t pid) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid() && errno == ESRCH) return Gone(pid);
  if (!pidfd.valid()) {
    return Error(
        Reason::kAttachRefused,
        absl::StrCat("process ", pid, " cannot be opened: pidfd_open: ", strerror(errno)),
        {{"pid", absl::StrCat(pid)}, {"errno", absl::StrCat(errno)}, {"refusal", "not_permitted"}});
  }
  UniqueFd directory(open(absl::StrCat("/proc/", pid).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Target target(pid, std::move(pidfd), std::move(directory));
  // The directory was opened by number. If the pidfd's process lives still, the number was its all
  // along.
  if (!target.directory_.valid() || !target.Alive()) return Gone(pid);
  return target;
}

bool Target::Alive() const {
  pollfd ended = {pidfd_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 0;
}

absl::Status Target::CheckAlive() const { return Alive() ? absl::OkStatus() : Gone(pid_); }

absl::Status Target::Failure(const std::string& what, int error) const {
  if (error == ESRCH || !Alive()) return Gone(pid_);
  return Error(
      Reason::kAttachRefused, absl::StrCat("process ", pid_, ": ", what, ": ", strerror(error)),
      {{"pid", absl::StrCat(pid_)}, {"errno", absl::StrCat(error)}, {"refusal", "not_permitted"}});
}

absl::StatusOr<std::string> Target::Read(const std::string& file) const {
  const UniqueFd fd(openat(directory_.get(), file.c_str(), O_RDONLY | O_CLOEXEC));
  std::string out;
  while (fd.valid()) {
    std::array<char, 16384> part;
    const ssize_t length = read(fd.get(), part.data(), part.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) break;
    if (length == 0) return out;
    out.append(part.data(), static_cast<size_t>(length));
  }
  return Failure(absl::StrCat("/proc/PID/", file), errno);
}

absl::StatusOr<std::string> Target::ReadLink(const std::string& file) const {
  std::array<char, 4096> name;
  const ssize_t length = readlinkat(directory_.get(), file.c_str(), name.data(), name.size());
  if (length < 0) return Failure(absl::StrCat("/proc/PID/", file), errno);
  return std::string(name.data(), static_cast<size_t>(length));
}

absl::StatusOr<std::vector<int>> Target::List(const std::string& directory) const {
  const int fd = openat(directory_.get(), directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Failure(absl::StrCat("/proc/PID/", directory), errno);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(fdopendir(fd), closedir);
  if (entries == nullptr) {
    const int error = errno;
    close(fd);
    return Failure(absl::StrCat("/proc/PID/", directory), error);
  }
  std::vector<int> out;
  while (const dirent* entry = readdir(entries.get())) {
    int number = 0;
    if (absl::SimpleAtoi(entry->d_name, &number)) out.push_back(number);
  }
  std::sort(out.begin(), out.end());
  return out;
}

absl::StatusOr<UniqueFd> Target::Duplicate(int fd) const {
  UniqueFd out(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd_.get(), fd, 0)));
  if (!out.valid()) return Failure(absl::StrCat("pidfd_getfd of descriptor ", fd), errno);
  return out;
}

absl::StatusOr<UniqueFd> Target::OpenMemory() const {
  UniqueFd out(openat(directory_.get(), "mem", O_RDWR | O_CLOEXEC));
  if (!out.valid()) return Failure("/proc/PID/mem", errno);
  return out;
}

}  // namespace tsc_handoff::attach
