#include "server/auth/audit.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/log.h"

namespace tsc_handoff::auth {
namespace {

constexpr mode_t kMode = 0600;
constexpr char kEvent[] = "audit";

LogLevel LevelOf(bool refused_at_the_door) {
  return refused_at_the_door ? LogLevel::kWarn : LogLevel::kInfo;
}

absl::StatusOr<UniqueFd> OpenFile(const std::string& path) {
  UniqueFd file(open(path.c_str(),
                     O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
                     kMode));
  struct stat about = {};
  if (!file.valid() || fstat(file.get(), &about) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot open the audit file ", path, ": ", std::strerror(errno),
                     "; may this user write there, and is there no symbolic link?"));
  }
  if (!S_ISREG(about.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the audit file ", path, " is no regular file; choose another path"));
  }
  return file;
}

std::vector<LogField> FieldsOf(const AuditEvent& event, uint64_t left_out) {
  std::vector<LogField> fields = {
      {"who", NameOf(event.who)}, {"from", OriginOf(event.who)}, {"rpc", event.method}};
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) fields.emplace_back(key, value);
  };
  add("vm", event.vm_id);
  add("handoff", event.handoff_id);
  if (event.epoch > 0) fields.emplace_back("epoch", event.epoch);
  add("state_sha256", event.state_sha256);
  fields.emplace_back("result", event.reason.empty() ? std::string("ok") : event.reason);
  add("why", event.why);
  fields.emplace_back("took_us", absl::ToInt64Microseconds(event.took));
  if (left_out > 0) fields.emplace_back("refusals_left_out_before", left_out);
  return fields;
}

}  // namespace

absl::Status Audit::Open() {
  if (path_.empty()) return absl::OkStatus();
  auto file = OpenFile(path_);
  if (!file.ok()) return file.status();
  const std::lock_guard<std::mutex> lock(mutex_);
  file_ = *std::move(file);
  in_the_middle_ = false;
  return absl::OkStatus();
}

bool Audit::Wants(bool refused_at_the_door) const {
  return !path_.empty() || LogsAt(LevelOf(refused_at_the_door));
}

void Audit::Write(const AuditEvent& event, bool refused_at_the_door) {
  if (!Wants(refused_at_the_door)) return;
  std::optional<uint64_t> left_out = 0;
  if (refused_at_the_door) {
    const std::lock_guard<std::mutex> lock(mutex_);
    left_out = refusals_.Pass(
        kEvent, std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  }
  if (!left_out.has_value()) return;
  const std::vector<LogField> fields = FieldsOf(event, *left_out);
  const LogLevel level = LevelOf(refused_at_the_door);
  if (path_.empty()) {
    Log(level, kEvent, fields);
    return;
  }
  const std::string line = absl::StrCat(
      "{\"time\":\"", absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone()), "\",",
      JsonMembers(kEvent, fields), "}\n");
  if (Append(line)) return;
  if (on_write_error_) on_write_error_();
  Log(LogLevel::kError, kEvent, fields);
}

bool Audit::Append(std::string line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // What was cut off stays a line of its own, and spoils no other.
  if (in_the_middle_) line.insert(0, 1, '\n');
  ssize_t written;
  do {
    written = write(file_.get(), line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written > 0) in_the_middle_ = static_cast<size_t>(written) < line.size();
  return written == static_cast<ssize_t>(line.size());
}

}  // namespace tsc_handoff::auth
