#include "tests/service/stub.h"

#include "client/lib/rpc_error.h"
#include "google/rpc/status.pb.h"

namespace tsc_handoff {

Stub::Stub(const std::string& address)
    : stub_(tschandoff::v1::TscAgent::NewStub(
          grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {}

absl::Status Stub::ToAbsl(const grpc::Status& status) {
  absl::Status converted(static_cast<absl::StatusCode>(status.error_code()),
                         status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) client::AttachDetails(details, &converted);
  return converted;
}

}  // namespace tsc_handoff
