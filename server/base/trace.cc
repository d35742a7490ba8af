#include "server/base/trace.h"

#include <algorithm>
#include <utility>

namespace tsc_handoff {
namespace {

constexpr size_t kVersionEnd = 2;
constexpr size_t kTraceBegin = 3;
constexpr size_t kTraceEnd = 35;
constexpr size_t kParentEnd = 52;
constexpr size_t kLength = 55;

std::string& CurrentOfThread() {
  thread_local std::string traceparent;
  return traceparent;
}

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(absl::string_view text) {
  return text.find_first_not_of('0') == absl::string_view::npos;
}

}  // namespace

absl::string_view TraceIdOf(absl::string_view traceparent) {
  // Version 00 has this length; a later one may go on after another dash. ff is none.
  if (traceparent.size() < kLength || traceparent.size() > 2 * kLength ||
      (traceparent.size() > kLength &&
       (traceparent.substr(0, kVersionEnd) == "00" || traceparent[kLength] != '-')))
    return "";
  const absl::string_view version = traceparent.substr(0, kVersionEnd);
  const absl::string_view trace = traceparent.substr(kTraceBegin, kTraceEnd - kTraceBegin);
  const absl::string_view parent = traceparent.substr(kTraceEnd + 1, kParentEnd - kTraceEnd - 1);
  const absl::string_view flags = traceparent.substr(kParentEnd + 1, kLength - kParentEnd - 1);
  if (traceparent[kVersionEnd] != '-' || traceparent[kTraceEnd] != '-' ||
      traceparent[kParentEnd] != '-' || version == "ff" || !IsHex(version) || !IsHex(trace) ||
      !IsHex(parent) || !IsHex(flags) || IsZero(trace) || IsZero(parent))
    return "";
  return trace;
}

TraceScope::TraceScope(absl::string_view traceparent)
    : before_(std::exchange(CurrentOfThread(), TraceIdOf(traceparent).empty()
                                                   ? std::string()
                                                   : std::string(traceparent))) {}

TraceScope::~TraceScope() { CurrentOfThread() = std::move(before_); }

const std::string& TraceScope::Current() { return CurrentOfThread(); }

}  // namespace tsc_handoff
