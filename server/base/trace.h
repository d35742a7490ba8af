// The caller's trace, W3C's traceparent ("00-TRACE-PARENT-FLAGS",
// https://www.w3.org/TR/trace-context), so that the log's lines and the calls to other agents
// belong to what the caller is doing.
//
// Threading: each thread has its own current trace.
#ifndef TSC_HANDOFF_SERVER_BASE_TRACE_H_
#define TSC_HANDOFF_SERVER_BASE_TRACE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tsc_handoff {

// The name of the metadata.
inline constexpr char kTraceparent[] = "traceparent";

// The 32 digits of the trace in a traceparent; empty when it is none, by whatever version.
absl::string_view TraceIdOf(absl::string_view traceparent);

// This thread works on a trace while it lives; nothing when `traceparent` is none.
class TraceScope {
 public:
  explicit TraceScope(absl::string_view traceparent);
  ~TraceScope();
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

  // As the caller sent it; empty when there is none.
  static const std::string& Current();

 private:
  std::string before_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_TRACE_H_
