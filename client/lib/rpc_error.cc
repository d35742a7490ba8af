#include "client/lib/rpc_error.h"

#include <optional>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "google/rpc/error_details.pb.h"

namespace tsc_handoff::client {
namespace {

using ::google::rpc::ErrorInfo;
using ::tschandoff::v1::ErrorReason;

// absl's convention for the details of a google.rpc.Status: payload name = type URL of the Any.
constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kOutcomeUnknownUrl[] = "tsc-handoff.client/outcome-unknown";
constexpr char kNextStep[] = "next_step";

// The ErrorInfo of our domain; another one (a proxy's, say) is not the agent's word.
std::optional<ErrorInfo> InfoOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrorInfoUrl);
  if (!payload.has_value()) return std::nullopt;
  ErrorInfo info;
  if (!info.ParseFromString(std::string(*payload)) || info.domain() != kErrorDomain)
    return std::nullopt;
  return info;
}

std::string TransportNextStep(const absl::Status& status) {
  if (IsOutcomeUnknown(status)) {
    return "Leave the VM paused. Read it with GetTscState, or repeat the same SetTscState: in "
           "ELAPSED mode a second "
           "apply gives the guest the same TSCs.";
  }
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return "Check that tsc-agent runs there (systemctl status tsc-agent), that the address is "
             "right and that you "
             "may open it.";
    case absl::StatusCode::kDeadlineExceeded:
      return "Nothing was changed. Repeat with a longer timeout, or look at the load of that host.";
    case absl::StatusCode::kUnimplemented:
      return "The server there is no tsc-agent, or an older one. Check the address and the agent's "
             "version.";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "Use credentials that the agent accepts.";
    default:
      return "Look at the agent's log on that host.";
  }
}

}  // namespace

bool IsFromAgent(const absl::Status& status) { return InfoOf(status).has_value(); }

bool IsUnreachable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable && !IsFromAgent(status) &&
         !IsOutcomeUnknown(status);
}

bool IsOutcomeUnknown(const absl::Status& status) {
  return status.GetPayload(kOutcomeUnknownUrl).has_value();
}

ErrorReason ReasonOf(const absl::Status& status) {
  ErrorReason reason = tschandoff::v1::ERROR_REASON_UNSPECIFIED;
  if (!tschandoff::v1::ErrorReason_Parse(ReasonNameOf(status), &reason)) {
    return tschandoff::v1::ERROR_REASON_UNSPECIFIED;
  }
  return reason;
}

std::string ReasonNameOf(const absl::Status& status) {
  const std::optional<ErrorInfo> info = InfoOf(status);
  return info.has_value() ? info->reason() : std::string();
}

std::map<std::string, std::string> MetadataOf(const absl::Status& status) {
  std::map<std::string, std::string> metadata;
  const std::optional<ErrorInfo> info = InfoOf(status);
  if (!info.has_value()) return metadata;
  for (const auto& [key, value] : info->metadata()) metadata.emplace(key, value);
  return metadata;
}

std::string NextStepOf(const absl::Status& status) {
  if (status.ok()) return "";
  // An unknown outcome outweighs what the last attempt said.
  if (!IsFromAgent(status) || IsOutcomeUnknown(status)) return TransportNextStep(status);
  const std::map<std::string, std::string> metadata = MetadataOf(status);
  const auto it = metadata.find(kNextStep);
  if (it != metadata.end() && !it->second.empty()) return it->second;
  return "See the description of this reason in error_reason.proto, and the agent's log.";
}

absl::Status ReasonError(absl::StatusCode code, ErrorReason reason, absl::string_view message,
                         absl::string_view next_step) {
  ErrorInfo info;
  info.set_reason(tschandoff::v1::ErrorReason_Name(reason));
  info.set_domain(std::string(kErrorDomain));
  (*info.mutable_metadata())[kNextStep] = std::string(next_step);
  absl::Status status(code, message);
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

absl::Status MarkOutcomeUnknown(absl::Status status) {
  status.SetPayload(kOutcomeUnknownUrl, absl::Cord());
  return status;
}

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload(
      [&annotated](auto url, const absl::Cord& payload) { annotated.SetPayload(url, payload); });
  return annotated;
}

void AttachDetails(const google::rpc::Status& from, absl::Status* to) {
  for (const google::protobuf::Any& detail : from.details()) {
    to->SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
}

}  // namespace tsc_handoff::client
