#include "server/service/rpc_status.h"

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/base/error.h"

namespace tsc_handoff::service {
namespace {

TEST(ToGrpcStatusTest, CarriesReasonMetadataAndNextStep) {
  const grpc::Status status =
      ToGrpcStatus(Error(Reason::kVmBusy, "VM a is busy", {{"vm_id", "a"}}));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "VM_BUSY");
  EXPECT_EQ(info.metadata().at("vm_id"), "a");
  EXPECT_EQ(info.metadata().at("next_step"), NextStep(Reason::kVmBusy));
}

TEST(ReasonLabelTest, NamesWhatWentWrong) {
  EXPECT_EQ(ReasonLabel(absl::OkStatus()), "");
  EXPECT_EQ(ReasonLabel(Error(Reason::kVmBusy, "busy")), "VM_BUSY");
  EXPECT_EQ(ReasonLabel(absl::UnknownError("a bug")), "INTERNAL_ERROR");
}

TEST(ToGrpcStatusTest, ACallThatItsCallerGaveUpIsNoBug) {
  const absl::Status given_up = absl::CancelledError("the caller has given up");
  EXPECT_EQ(ToGrpcStatus(given_up).error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(ReasonLabel(given_up), "CANCELLED");
}

}  // namespace
}  // namespace tsc_handoff::service
