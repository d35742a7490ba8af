#include "server/tls/tls_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::tls {
namespace {

constexpr size_t kMaxBytes = 1024 * 1024;

absl::Status Unreadable(const std::string& path, const std::string& why) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", why));
}

absl::Status Failed(const std::string& path, const char* call, int error_number) {
  return Unreadable(path, absl::StrCat(call, ": ", strerror(error_number)));
}

// Of the descriptor, so that what is checked is what is read.
absl::StatusOr<std::string> ReadFile(const std::string& path, mode_t forbidden) {
  // O_NONBLOCK: a FIFO in the file's place must not hold up the agent.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Failed(path, "open", errno);
  struct stat about = {};
  if (fstat(fd.get(), &about) != 0) return Failed(path, "stat", errno);
  if (!S_ISREG(about.st_mode)) return Unreadable(path, "is not a file");
  if ((about.st_mode & forbidden) != 0) {
    return Unreadable(path, "is a private key that every user may read or write; chmod o= it");
  }
  std::string text(kMaxBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed(path, "read", errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kMaxBytes) return Unreadable(path, "is larger than 1 MiB");
  if (size == 0) return Unreadable(path, "is empty");
  text.resize(size);
  return text;
}

}  // namespace

absl::Status CheckComplete(const TlsFiles& files) {
  std::vector<std::string> missing;
  if (files.cert.empty()) missing.emplace_back("--tls-cert");
  if (files.key.empty()) missing.emplace_back("--tls-key");
  if (files.ca.empty()) missing.emplace_back("--tls-ca");
  if (missing.empty() || files.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--tls-cert, --tls-key and --tls-ca belong together; missing: ",
                   absl::StrJoin(missing, ", ")));
}

absl::StatusOr<PemTexts> ReadTlsFiles(const TlsFiles& files) {
  auto ca = ReadFile(files.ca, 0);
  if (!ca.ok()) return ca.status();
  auto cert = ReadFile(files.cert, 0);
  if (!cert.ok()) return cert.status();
  auto key = ReadFile(files.key, S_IRWXO);
  if (!key.ok()) return key.status();
  return PemTexts{*std::move(ca), *std::move(cert), *std::move(key)};
}

}  // namespace tsc_handoff::tls
