// Injects into a child as a port does: on a tracing thread of its own. For tests.
#ifndef TSC_HANDOFF_SERVER_ATTACH_TESTING_INJECT_H_
#define TSC_HANDOFF_SERVER_ATTACH_TESTING_INJECT_H_

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "server/attach/injection.h"
#include "server/attach/target.h"
#include "server/attach/tracee.h"

namespace tsc_handoff::attach {

// A target whose tests run beside others on a busy machine: a thread that is to hang says so
// itself.
inline InjectionOptions Patient() {
  InjectionOptions options;
  options.hang_after = absl::Seconds(10);
  options.timeout = absl::Seconds(20);
  return options;
}

inline absl::StatusOr<InjectionResult> Inject(pid_t pid, pid_t tid, std::vector<std::byte> job,
                                              const InjectionOptions& options = Patient()) {
  absl::StatusOr<Target> target = Target::Open(pid);
  if (!target.ok()) return target.status();
  absl::StatusOr<InjectionResult> result = absl::UnknownError("not run");
  OnTracingThread([&] { result = RunInThread(*target, tid, std::move(job), options); });
  return result;
}

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_TESTING_INJECT_H_
