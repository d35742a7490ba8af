#include "server/base/accounts.h"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff {
namespace {

// A group's entry holds all its members' names.
constexpr size_t kSmallestBuffer = 16384;
constexpr size_t kLargestBuffer = 4 << 20;

// `look_up` is getpwnam_r or getgrnam_r; whether there is such an entry.
template <typename Entry, typename LookUp>
bool Find(LookUp look_up, const std::string& name, Entry& entry, std::vector<char>& buffer) {
  for (size_t size = kSmallestBuffer; size <= kLargestBuffer; size *= 4) {
    buffer.resize(size);
    Entry* found = nullptr;
    const int error = look_up(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error != ERANGE) return error == 0 && found != nullptr;
  }
  return false;
}

}  // namespace

absl::StatusOr<uint32_t> ParseUser(const std::string& text) {
  uint32_t uid = 0;
  if (absl::SimpleAtoi(text, &uid)) return uid;
  std::vector<char> buffer;
  passwd entry = {};
  if (Find(getpwnam_r, text, entry, buffer)) return entry.pw_uid;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no user of this host"));
}

absl::StatusOr<uint32_t> ParseGroup(const std::string& text) {
  uint32_t gid = 0;
  if (absl::SimpleAtoi(text, &gid)) return gid;
  std::vector<char> buffer;
  group entry = {};
  if (Find(getgrnam_r, text, entry, buffer)) return entry.gr_gid;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no group of this host"));
}

}  // namespace tsc_handoff
