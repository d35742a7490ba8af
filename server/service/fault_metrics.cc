#include "server/service/fault_metrics.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "server/base/error.h"

namespace tsc_handoff::service {
namespace {

using metrics::ReadBack;

constexpr int kLastErrno = 133;  // EHWPOISON

// A VMM's word: only an errno that exists becomes a label.
std::string ErrnoLabel(const std::string& text) {
  int number = 0;
  const bool known = absl::SimpleAtoi(text, &number) && number > 0 && number <= kLastErrno;
  return known ? text : "other";
}

void CountReadBack(Reason reason, metrics::Metrics& metrics) {
  if (reason == Reason::kTscProtected) {
    metrics.ReadBackFailed(ReadBack::kTscOffset);
  } else if (reason == Reason::kTscAdjustUnsupported) {
    metrics.ReadBackFailed(ReadBack::kTscAdjust);
  } else {
    metrics.ReadBackFailed(ReadBack::kKvmclock);
  }
}

}  // namespace

void CountFault(const absl::Status& status, metrics::Metrics& metrics) {
  const auto reason = ReasonOf(status);
  const Metadata metadata = MetadataOf(status);
  const auto ioctl = metadata.find("ioctl");
  if (status.ok() || !reason.has_value() || ioctl == metadata.end()) return;
  const auto error_number = metadata.find("errno");
  const bool failed = error_number != metadata.end();
  if (failed) metrics.IoctlFailed(ioctl->second, ErrnoLabel(error_number->second));
  if (*reason == Reason::kRollbackFailed) return metrics.RolledBack(false);
  const bool not_kept =
      !failed && (*reason == Reason::kTscProtected || *reason == Reason::kTscAdjustUnsupported ||
                  *reason == Reason::kKvmIoctlFailed);
  if (not_kept) CountReadBack(*reason, metrics);
  // Reading failed before anything was written.
  const bool writing = absl::StartsWith(ioctl->second, "KVM_SET_");
  if (not_kept || (failed && writing)) metrics.RolledBack(true);
}

}  // namespace tsc_handoff::service
