// Log: one line per event. Says what happened in words, and its particulars as fields, under the
// same names everywhere: vm, handoff, epoch, side, state, peer, reason, trace.
//
// As text, for people:  applied TSC state vm=web-1 vcpus=16 error_bound_ns=52000
// As JSON, for journald and what reads it: {"time":...,"level":"info","event":"applied TSC state",
// "vm":"web-1","vcpus":16,...}. Values are escaped in both, so that nobody's words can make a line.
//
// Threading: thread-safe. A LogContext belongs to its thread.
#ifndef TSC_HANDOFF_SERVER_BASE_LOG_H_
#define TSC_HANDOFF_SERVER_BASE_LOG_H_

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

namespace tsc_handoff {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
// kJournal: JSON after the priority as systemd's journal expects it, "<4>", for `journalctl -p`.
enum class LogFormat { kText, kJson, kJournal };

class LogField {
 public:
  using Value = std::variant<std::string, int64_t, uint64_t, double, bool>;

  template <std::integral T>
  LogField(absl::string_view key, T value) : key_(key), value_(FromIntegral(value)) {}
  LogField(absl::string_view key, double value) : key_(key), value_(value) {}
  LogField(absl::string_view key, absl::string_view value)
      : key_(key), value_(std::string(value)) {}
  LogField(absl::string_view key, const std::string& value) : key_(key), value_(value) {}
  LogField(absl::string_view key, const char* value) : key_(key), value_(std::string(value)) {}

  const std::string& key() const { return key_; }
  const Value& value() const { return value_; }

 private:
  template <typename T>
  static Value FromIntegral(T value) {
    if constexpr (std::same_as<T, bool>) {
      return value;
    } else if constexpr (std::unsigned_integral<T>) {
      return static_cast<uint64_t>(value);
    } else {
      return static_cast<int64_t>(value);
    }
  }

  std::string key_;
  Value value_;
};

using LogFields = std::initializer_list<LogField>;

// Writes the line, with the fields of this thread's contexts after its own, if the level is on.
void Log(LogLevel level, absl::string_view event, LogFields fields = {});
void Log(LogLevel level, absl::string_view event, const std::vector<LogField>& fields);

// Whether a line of this level is written, for who would make one at some expense.
bool LogsAt(LogLevel level);

// For what others can cause as often as they like. Of one `event`, a burst of 50 lines is written,
// and then 5 a second; the next line that is written says how many were not.
void LogLimited(LogLevel level, absl::string_view event, LogFields fields = {});

// Fields for all lines of this thread while it lives. Empty values are left out.
class LogContext {
 public:
  explicit LogContext(std::vector<LogField> fields);
  ~LogContext();
  LogContext(const LogContext&) = delete;
  LogContext& operator=(const LogContext&) = delete;

 private:
  size_t before_;
};

// To stderr from now on. `name` is the program's.
void StartLog(const std::string& name, LogFormat format);
// kJournal where systemd's journal reads this program's stderr, else kText.
LogFormat FormatForStderr();

// "debug", "info", "warn" or "error"; false for anything else, and nothing changes.
bool SetLogLevel(absl::string_view level);

// A line without its time and level, as Log makes them. Pure.
std::string TextLine(absl::string_view event, const std::vector<LogField>& fields);
// Without the braces.
std::string JsonMembers(absl::string_view event, const std::vector<LogField>& fields);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_LOG_H_
