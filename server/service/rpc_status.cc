#include "server/service/rpc_status.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/base/error.h"

namespace tsc_handoff::service {
namespace {

constexpr std::array kCodeNames = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // The caller's own doing, and he does not read it any more.
  if (absl::IsCancelled(status))
    return grpc::Status(grpc::StatusCode::CANCELLED, std::string(status.message()));
  const auto reason = ReasonOf(status);
  const Reason shown = reason.value_or(Reason::kInternalError);
  const auto code = static_cast<grpc::StatusCode>(reason.has_value() ? status.code()
                                                                     : absl::StatusCode::kInternal);

  google::rpc::ErrorInfo info;
  info.set_reason(std::string(ReasonName(shown)));
  info.set_domain("tsc-handoff");
  for (const auto& [key, value] : MetadataOf(status)) (*info.mutable_metadata())[key] = value;
  (*info.mutable_metadata())["next_step"] = std::string(NextStep(shown));

  google::rpc::Status details;
  details.set_code(code);
  details.set_message(absl::StrCat(status.message(), ". ", NextStep(shown)));
  details.add_details()->PackFrom(info);
  return grpc::Status(code, details.message(), details.SerializeAsString());
}

std::string ReasonLabel(const absl::Status& status) {
  if (status.ok()) return "";
  if (absl::IsCancelled(status)) return "CANCELLED";
  return std::string(ReasonName(ReasonOf(status).value_or(Reason::kInternalError)));
}

const char* CodeName(grpc::StatusCode code) {
  const auto index = static_cast<size_t>(code);
  return index < kCodeNames.size() ? kCodeNames[index] : "Unknown";
}

std::vector<std::string> CodeNames() { return {kCodeNames.begin(), kCodeNames.end()}; }

}  // namespace tsc_handoff::service
