// Errors of the agent: an absl::Status that carries one Reason from the documented list, and
// metadata for programs.
//
// Low layers make them here; the RPC edge turns them into google.rpc.Status
// (server/service/rpc_status.h). The names are those of tschandoff.v1.ErrorReason, which a test
// compares with this list.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_SERVER_BASE_ERROR_H_
#define TSC_HANDOFF_SERVER_BASE_ERROR_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff {

// See error_reason.proto for what each means; the numbers are the same.
enum class Reason {
  kRequestInvalid = 1,
  kVmNotFound = 2,
  kVmRunning = 3,
  kVmBusy = 4,
  kVcpuSetMismatch = 5,
  kTscProtected = 6,
  kTscKhzUnsupported = 7,
  kTscKhzMixed = 8,
  kTscAdjustUnsupported = 9,
  kClockUntrusted = 10,
  kClockBoundExceeded = 11,
  kClocksDisagree = 12,
  kTimeWouldGoBack = 13,
  kElapsedOutOfRange = 14,
  kStateWithoutTime = 15,
  kStateCorrupt = 16,
  kStateVersionUnsupported = 17,
  kStaleEpoch = 18,
  kHandoffConflict = 19,
  kHandoffUndecided = 20,
  kKvmIoctlFailed = 21,
  kRollbackFailed = 22,
  kVmmGone = 23,
  kHostTscUnstable = 24,
  kKvmUnavailable = 25,
  kLimitExceeded = 26,
  kAgentStopping = 27,
  kInternalError = 28,
  kPeerUnreachable = 29,
  kHandoffNotFound = 30,
  kHandoffDecided = 31,
  kHandoffIdReused = 32,
  kJournalUnavailable = 33,
  kAttachRefused = 34,
  kAttachDenied = 35,
  kVmAmbiguous = 36,
  kAgentDraining = 37,
  kConfigInvalid = 38,
  kNotAuthorized = 39,
  kClaimRefused = 40,
};

using Metadata = std::map<std::string, std::string>;

// An error of the reason's status code. `message` is one sentence for a person, without a final
// full stop; the reason's next step is appended when the error is shown.
absl::Status Error(Reason reason, absl::string_view message, Metadata metadata = {});

// The reason that `status` carries; nullopt for a status that was not made by Error().
std::optional<Reason> ReasonOf(const absl::Status& status);

// The metadata that `status` carries; empty for a status that was not made by Error().
Metadata MetadataOf(const absl::Status& status);

// The reason's name in the API, for example "VM_RUNNING".
absl::string_view ReasonName(Reason reason);

// The names of all reasons.
std::vector<std::string> ReasonNames();

// What the caller does next: one sentence.
absl::string_view NextStep(Reason reason);

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_ERROR_H_
