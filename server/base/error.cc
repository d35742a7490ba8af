#include "server/base/error.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff {
namespace {

// Where Error() keeps reason and metadata in the status: not a proto, since low layers know none.
constexpr char kPayloadUrl[] = "tsc-handoff/error";
// Cannot occur in keys and is stripped from values.
constexpr char kSeparator = '\x1f';

struct ReasonText {
  Reason reason;
  const char* name;
  absl::StatusCode code;
  const char* next_step;
};

using absl::StatusCode;

constexpr std::array kReasons = {
    ReasonText{Reason::kRequestInvalid, "REQUEST_INVALID", StatusCode::kInvalidArgument,
               "Correct the request."},
    ReasonText{Reason::kVmNotFound, "VM_NOT_FOUND", StatusCode::kNotFound,
               "List the VMs (tscctl vms); start the VMM, or correct the id."},
    ReasonText{Reason::kVmRunning, "VM_RUNNING", StatusCode::kFailedPrecondition,
               "Pause the VM, then repeat."},
    ReasonText{Reason::kVmBusy, "VM_BUSY", StatusCode::kAborted,
               "Repeat when the other operation has ended."},
    ReasonText{Reason::kVcpuSetMismatch, "VCPU_SET_MISMATCH", StatusCode::kFailedPrecondition,
               "Create the destination VM with the same vCPU ids."},
    ReasonText{
        Reason::kTscProtected, "TSC_PROTECTED", StatusCode::kFailedPrecondition,
        "This VM's TSC cannot be moved from outside: migrate it by the means of its protection."},
    ReasonText{Reason::kTscKhzUnsupported, "TSC_KHZ_UNSUPPORTED", StatusCode::kFailedPrecondition,
               "Choose a destination with TSC scaling or of the same frequency."},
    ReasonText{Reason::kTscKhzMixed, "TSC_KHZ_MIXED", StatusCode::kFailedPrecondition,
               "Give all vCPUs of the VM the same KVM_SET_TSC_KHZ."},
    ReasonText{Reason::kTscAdjustUnsupported, "TSC_ADJUST_UNSUPPORTED",
               StatusCode::kFailedPrecondition,
               "Give the destination VM the source's CPUID before the apply."},
    ReasonText{Reason::kClockUntrusted, "CLOCK_UNTRUSTED", StatusCode::kFailedPrecondition,
               "Mend the clock's synchronisation and repeat, or accept the risk with "
               "allow_untrusted_clock."},
    ReasonText{Reason::kClockBoundExceeded, "CLOCK_BOUND_EXCEEDED", StatusCode::kFailedPrecondition,
               "Improve the clocks' synchronisation, or raise max_error_ns."},
    ReasonText{Reason::kClocksDisagree, "CLOCKS_DISAGREE", StatusCode::kFailedPrecondition,
               "One host's clock is wrong: find out which before any handoff."},
    ReasonText{Reason::kTimeWouldGoBack, "TIME_WOULD_GO_BACK", StatusCode::kFailedPrecondition,
               "Check both hosts' clocks; the state can also be applied in EXACT mode."},
    ReasonText{
        Reason::kElapsedOutOfRange, "ELAPSED_OUT_OF_RANGE", StatusCode::kFailedPrecondition,
        "Check both hosts' clocks, or set max_elapsed_ns to restore an old state on purpose."},
    ReasonText{Reason::kStateWithoutTime, "STATE_WITHOUT_TIME", StatusCode::kFailedPrecondition,
               "Apply it in EXACT mode."},
    ReasonText{Reason::kStateCorrupt, "STATE_CORRUPT", StatusCode::kDataLoss,
               "Get the state again from its source."},
    ReasonText{Reason::kStateVersionUnsupported, "STATE_VERSION_UNSUPPORTED",
               StatusCode::kFailedPrecondition,
               "Use an agent at least as new as the one that wrote the state."},
    ReasonText{Reason::kStaleEpoch, "STALE_EPOCH", StatusCode::kFailedPrecondition,
               "Give this handoff up: another one has overtaken it."},
    ReasonText{Reason::kHandoffConflict, "HANDOFF_CONFLICT", StatusCode::kAborted,
               "Finish or abort the handoff that is named."},
    ReasonText{Reason::kHandoffUndecided, "HANDOFF_UNDECIDED", StatusCode::kFailedPrecondition,
               "Ask both agents by GetHandoff."},
    ReasonText{Reason::kKvmIoctlFailed, "KVM_IOCTL_FAILED", StatusCode::kInternal,
               "Nothing has changed; look up the errno for that ioctl, and the host's kernel log."},
    ReasonText{Reason::kRollbackFailed, "ROLLBACK_FAILED", StatusCode::kInternal,
               "Do not run this VM: create it anew, or apply a good state."},
    ReasonText{Reason::kVmmGone, "VMM_GONE", StatusCode::kUnavailable,
               "Look whether the VMM lives; restart it, then repeat."},
    ReasonText{
        Reason::kHostTscUnstable, "HOST_TSC_UNSTABLE", StatusCode::kFailedPrecondition,
        "Do not use this host for TSC handoff; see its kernel log for why the TSC was given up."},
    ReasonText{
        Reason::kKvmUnavailable, "KVM_UNAVAILABLE", StatusCode::kFailedPrecondition,
        "Load kvm_intel or kvm_amd, and give the agent's user access to /dev/kvm (group kvm)."},
    ReasonText{Reason::kLimitExceeded, "LIMIT_EXCEEDED", StatusCode::kResourceExhausted,
               "Wait, or raise the limit that is named."},
    ReasonText{Reason::kAgentStopping, "AGENT_STOPPING", StatusCode::kUnavailable,
               "Repeat with the next agent."},
    ReasonText{Reason::kInternalError, "INTERNAL_ERROR", StatusCode::kInternal,
               "Report this as a bug."},
    ReasonText{Reason::kPeerUnreachable, "PEER_UNREACHABLE", StatusCode::kUnavailable,
               "Correct the peer's address (--peer-address of its agent), or look whether that "
               "agent runs; then repeat."},
    ReasonText{Reason::kHandoffNotFound, "HANDOFF_NOT_FOUND", StatusCode::kNotFound,
               "Look at ListHandoffs of both agents; correct the id."},
    ReasonText{Reason::kHandoffDecided, "HANDOFF_DECIDED", StatusCode::kFailedPrecondition,
               "Go forward when it was released; begin a new handoff when it was aborted."},
    ReasonText{Reason::kHandoffIdReused, "HANDOFF_ID_REUSED", StatusCode::kAlreadyExists,
               "Repeat exactly what was sent first, or take a new handoff id."},
    ReasonText{
        Reason::kJournalUnavailable, "JOURNAL_UNAVAILABLE", StatusCode::kUnavailable,
        "See the agent's log and GetHostInfo for the file; mend it, then restart the agent."},
    ReasonText{Reason::kAttachRefused, "ATTACH_REFUSED", StatusCode::kFailedPrecondition,
               "Remove what stands in the way, or have the VMM link the C library."},
    ReasonText{Reason::kAttachDenied, "ATTACH_DENIED", StatusCode::kPermissionDenied,
               "Change the agent's options where that is right, or have the VMM link the C "
               "library."},
    ReasonText{Reason::kVmAmbiguous, "VM_AMBIGUOUS", StatusCode::kFailedPrecondition,
               "Give each VM an id of its own and each VMM process one VM; tscctl vms shows what "
               "is in the way."},
    ReasonText{Reason::kAgentDraining, "AGENT_DRAINING", StatusCode::kUnavailable,
               "Take another host, or wait until draining ends (tscctl undrain)."},
    ReasonText{Reason::kConfigInvalid, "CONFIG_INVALID", StatusCode::kFailedPrecondition,
               "Mend the file; the agent goes on with the settings that it has."},
    ReasonText{Reason::kNotAuthorized, "NOT_AUTHORIZED", StatusCode::kPermissionDenied,
               "Call as somebody whom the agent's policy names, or have its operator name this "
               "caller (--policy)."},
    ReasonText{
        Reason::kClaimRefused, "CLAIM_REFUSED", StatusCode::kFailedPrecondition,
        "Look at the VM (tscctl vms) and its handoffs (tscctl handoffs --vm) on both hosts."},
};

const ReasonText& TextOf(Reason reason) {
  const ReasonText* bug = nullptr;
  for (const ReasonText& text : kReasons) {
    if (text.reason == reason) return text;
    if (text.reason == Reason::kInternalError) bug = &text;
  }
  return *bug;
}

}  // namespace

absl::Status Error(Reason reason, absl::string_view message, Metadata metadata) {
  const ReasonText& text = TextOf(reason);
  absl::Status status(text.code, message);
  std::string payload = absl::StrCat(static_cast<int>(reason));
  for (auto& [key, value] : metadata) {
    std::erase(value, kSeparator);
    absl::StrAppend(&payload, absl::string_view(&kSeparator, 1), key, "=", value);
  }
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
  return status;
}

std::optional<Reason> ReasonOf(const absl::Status& status) {
  auto payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  return static_cast<Reason>(std::stoi(std::string(*payload)));
}

Metadata MetadataOf(const absl::Status& status) {
  Metadata metadata;
  auto payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return metadata;
  std::vector<std::string> parts = absl::StrSplit(std::string(*payload), kSeparator);
  for (size_t i = 1; i < parts.size(); ++i) {
    std::pair<std::string, std::string> entry = absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    metadata.insert(std::move(entry));
  }
  return metadata;
}

absl::string_view ReasonName(Reason reason) { return TextOf(reason).name; }

std::vector<std::string> ReasonNames() {
  std::vector<std::string> names;
  for (const ReasonText& text : kReasons) names.emplace_back(text.name);
  return names;
}

absl::string_view NextStep(Reason reason) { return TextOf(reason).next_step; }

}  // namespace tsc_handoff
