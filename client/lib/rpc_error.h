// What a failed call to an agent says: the documented reason, what it is about, and what to do
// next.
//
// Every error of this library is an absl::Status. One that an agent sent carries the agent's
// google.rpc.ErrorInfo as a payload; one that arose on the way (agent not reached, deadline) does
// not. The functions below read both.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_LIB_RPC_ERROR_H_
#define TSC_HANDOFF_CLIENT_LIB_RPC_ERROR_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"
#include "tschandoff/v1/error_reason.pb.h"

namespace tsc_handoff::client {

// The agents' ErrorInfo domain.
inline constexpr absl::string_view kErrorDomain = "tsc-handoff";

// Whether the agent itself said so, rather than the network between. False for OK.
bool IsFromAgent(const absl::Status& status);

// Whether the agent could not be reached at all: nothing was sent, or nothing that matters.
bool IsUnreachable(const absl::Status& status);

// Whether the call may have changed the VM although it failed: it was sent, and its answer was
// lost. Only SetTscState's errors can be so.
bool IsOutcomeUnknown(const absl::Status& status);

// The reason; ERROR_REASON_UNSPECIFIED where there is none, or where it is newer than this library.
tschandoff::v1::ErrorReason ReasonOf(const absl::Status& status);

// The reason's name as sent, for example "VM_RUNNING", known to this library or not; empty where
// there is none.
std::string ReasonNameOf(const absl::Status& status);

// What the error is about: "vm_id", "vcpu_id", "ioctl" and so on; empty where the agent did not
// speak.
std::map<std::string, std::string> MetadataOf(const absl::Status& status);

// What to do next: the agent's sentence, or this library's own for errors on the way. Empty for OK.
std::string NextStepOf(const absl::Status& status);

// An error of this side that has one of the documented reasons.
absl::Status ReasonError(absl::StatusCode code, tschandoff::v1::ErrorReason reason,
                         absl::string_view message, absl::string_view next_step);

// `status` with a mark that the VM may have changed. No effect on OK.
absl::Status MarkOutcomeUnknown(absl::Status status);

// `status` with its message behind "prefix: "; keeps code and payloads.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

// Copies the details of a received google.rpc.Status to payloads, by their type URL.
void AttachDetails(const google::rpc::Status& from, absl::Status* to);

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_RPC_ERROR_H_
