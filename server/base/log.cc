#include "server/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/log_limiter.h"

namespace tsc_handoff {
namespace {

constexpr double kBurst = 50;
constexpr double kPerSecond = 5;

std::atomic<LogFormat> format{LogFormat::kText};

std::vector<LogField>& Context() {
  thread_local std::vector<LogField> fields;
  return fields;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

const char* NameOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      break;
  }
  return "error";
}

// See sd-daemon(3).
const char* PriorityOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "<7>";
    case LogLevel::kInfo:
      return "<6>";
    case LogLevel::kWarn:
      return "<4>";
    case LogLevel::kError:
      break;
  }
  return "<3>";
}

// Whether a value can stand in a line of text as it is.
bool IsPlain(absl::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c)) || c == '"' || c == '=' || c == '\\')
      return false;
  }
  return true;
}

struct ToText {
  std::string operator()(const std::string& text) const {
    return IsPlain(text) ? text : absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\"");
  }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(double value) const { return absl::StrFormat("%g", value); }
  template <typename T>
  std::string operator()(T value) const {
    return absl::StrCat(value);
  }
};

// Whether a text is JSON's as it stands, but for its quotes.
bool IsPlainJson(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c)) || c == '"' || c == '\\') return false;
  }
  return true;
}

std::string Quoted(absl::string_view text) {
  if (IsPlainJson(text)) return absl::StrCat("\"", text, "\"");
  // What is no UTF-8 becomes U+FFFD: a log line must never be lost for what is in it.
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct ToJson {
  std::string operator()(const std::string& text) const { return Quoted(text); }
  std::string operator()(double value) const { return nlohmann::json(value).dump(); }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  template <typename T>
  std::string operator()(T value) const {
    return absl::StrCat(value);
  }
};

void Write(LogLevel level, absl::string_view event, std::vector<LogField> fields) {
  fields.insert(fields.end(), Context().begin(), Context().end());
  if (format == LogFormat::kText) {
    spdlog::log(ToSpdlog(level), "{}", TextLine(event, fields));
    return;
  }
  spdlog::log(
      ToSpdlog(level), "{}",
      absl::StrCat(format == LogFormat::kJournal ? PriorityOf(level) : "", "{\"time\":\"",
                   absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone()),
                   "\",\"level\":\"", NameOf(level), "\",", JsonMembers(event, fields), "}"));
}

}  // namespace

std::string TextLine(absl::string_view event, const std::vector<LogField>& fields) {
  std::string line(event);
  for (const LogField& field : fields)
    absl::StrAppend(&line, " ", field.key(), "=", std::visit(ToText(), field.value()));
  return line;
}

std::string JsonMembers(absl::string_view event, const std::vector<LogField>& fields) {
  std::string members = absl::StrCat("\"event\":", Quoted(event));
  for (const LogField& field : fields) {
    absl::StrAppend(&members, ",", Quoted(field.key()), ":", std::visit(ToJson(), field.value()));
  }
  return members;
}

void Log(LogLevel level, absl::string_view event, LogFields fields) {
  if (spdlog::should_log(ToSpdlog(level))) Write(level, event, fields);
}

void Log(LogLevel level, absl::string_view event, const std::vector<LogField>& fields) {
  if (spdlog::should_log(ToSpdlog(level))) Write(level, event, fields);
}

bool LogsAt(LogLevel level) { return spdlog::should_log(ToSpdlog(level)); }

void LogLimited(LogLevel level, absl::string_view event, LogFields fields) {
  if (!spdlog::should_log(ToSpdlog(level))) return;
  static std::mutex mutex;
  static LogLimiter limiter(kBurst, kPerSecond);
  std::optional<uint64_t> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    dropped = limiter.Pass(
        event, std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  }
  if (!dropped.has_value()) return;
  std::vector<LogField> all(fields);
  if (*dropped > 0) all.emplace_back("lines_dropped_before", *dropped);
  Write(level, event, std::move(all));
}

LogContext::LogContext(std::vector<LogField> fields) : before_(Context().size()) {
  for (LogField& field : fields) {
    const auto* text = std::get_if<std::string>(&field.value());
    if (text == nullptr || !text->empty()) Context().push_back(std::move(field));
  }
}

LogContext::~LogContext() { Context().erase(Context().begin() + before_, Context().end()); }

void StartLog(const std::string& name, LogFormat wanted) {
  format = wanted;
  auto logger = spdlog::stderr_color_mt(name);
  if (wanted != LogFormat::kText) logger->set_pattern("%v");
  spdlog::set_default_logger(std::move(logger));
}

LogFormat FormatForStderr() {
  // systemd says DEVICE:INODE of the stream that it reads; a child's stderr may be another one.
  const char* const stream = std::getenv("JOURNAL_STREAM");
  struct stat is = {};
  if (stream == nullptr || fstat(STDERR_FILENO, &is) != 0) return LogFormat::kText;
  return absl::StrCat(is.st_dev, ":", is.st_ino) == stream ? LogFormat::kJournal : LogFormat::kText;
}

bool SetLogLevel(absl::string_view level) {
  for (const LogLevel known :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
    if (level != NameOf(known)) continue;
    spdlog::set_level(ToSpdlog(known));
    return true;
  }
  return false;
}

}  // namespace tsc_handoff
