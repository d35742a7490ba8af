#include "server/journal/journal_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::journal {
namespace {

constexpr char kLog[] = "-wal";
constexpr char kDamaged[] = ".damaged-";
constexpr char kNew[] = ".new";

absl::Status Failed(const std::string& what, int error) {
  return absl::InternalError(absl::StrCat(what, ": ", strerror(error)));
}

std::string DirectoryOf(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

absl::Status SyncDirectory(const std::string& directory) {
  const UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd.get()) != 0)
    return Failed(absl::StrCat("cannot sync the directory ", directory), errno);
  return absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0)
    return Failed(absl::StrCat("cannot rename ", from, " to ", to), errno);
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeDirectoryOf(const std::string& path) {
  const std::string directory = DirectoryOf(path);
  if (mkdir(directory.c_str(), 0700) == 0) return SyncDirectory(DirectoryOf(directory));
  if (errno == EEXIST) return absl::OkStatus();
  return Failed(absl::StrCat("cannot make the directory ", directory), errno);
}

bool Exists(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 || errno != ENOENT;
}

absl::Status MakeJournalFile(const std::string& path,
                             const std::function<absl::Status(const std::string&)>& fill) {
  const std::string temporary = absl::StrCat(path, kNew);
  unlink(temporary.c_str());  // of a start that did not come to its end
  unlink(absl::StrCat(temporary, "-journal").c_str());
  // Made here, so that nobody else can read it; SQLite gives its log the same mode.
  {
    const UniqueFd fd(open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (fd.get() < 0) return Failed(absl::StrCat("cannot make ", temporary), errno);
  }
  if (absl::Status status = fill(temporary); !status.ok()) return status;
  if (absl::Status status = Rename(temporary, path); !status.ok()) return status;
  return SyncDirectory(DirectoryOf(path));
}

std::vector<std::string> FindQuarantined(const std::string& path) {
  std::vector<std::string> found;
  const std::string prefix = absl::StrCat(path, kDamaged);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(DirectoryOf(path), error)) {
    const std::string name = entry.path().string();
    if (absl::StartsWith(name, prefix)) found.push_back(name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

absl::StatusOr<std::string> Quarantine(const std::string& path) {
  const std::string base = absl::StrCat(
      path, kDamaged, absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone()));
  std::string aside = base;
  for (int number = 2; Exists(aside); ++number) aside = absl::StrCat(base, ".", number);
  // The journal first: without its log it would be one that is whole, and out of date. A log
  // without its journal is noticed.
  bool moved = false;
  if (Exists(path)) {
    if (absl::Status status = Rename(path, aside); !status.ok()) return status;
    moved = true;
  }
  if (const std::string log = absl::StrCat(path, kLog); Exists(log)) {
    if (absl::Status status = Rename(log, absl::StrCat(aside, kLog)); !status.ok()) return status;
    if (!moved) aside += kLog;
  }
  if (absl::Status status = SyncDirectory(DirectoryOf(path)); !status.ok()) return status;
  return aside;
}

}  // namespace tsc_handoff::journal
