#include "server/config/text_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::config {
namespace {

constexpr off_t kMaxFileBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  struct stat about = {};
  std::ifstream file(path);
  if (!file || stat(path.c_str(), &about) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
  }
  if (!S_ISREG(about.st_mode) || about.st_size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": must be a file of at most ", kMaxFileBytes, " bytes"));
  }
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace tsc_handoff::config
