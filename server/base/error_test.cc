#include "server/base/error.h"

#include "gtest/gtest.h"
#include "tschandoff/v1/error_reason.pb.h"

namespace tsc_handoff {
namespace {

TEST(ErrorTest, CarriesReasonAndMetadata) {
  absl::Status status =
      Error(Reason::kVmRunning, "vCPU 3 runs", {{"vm_id", "db=7"}, {"vcpu_id", "3"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), Reason::kVmRunning);
  EXPECT_EQ(MetadataOf(status), (Metadata{{"vm_id", "db=7"}, {"vcpu_id", "3"}}));
}

TEST(ErrorTest, MetadataValuesCannotForgeOtherKeys) {
  absl::Status status = Error(Reason::kVmNotFound, "no", {{"vm_id", "a\x1freason=x"}});
  EXPECT_EQ(MetadataOf(status), (Metadata{{"vm_id", "areason=x"}}));
}

TEST(ErrorTest, AForeignStatusHasNoReason) {
  EXPECT_EQ(ReasonOf(absl::InternalError("x")), std::nullopt);
  EXPECT_TRUE(MetadataOf(absl::OkStatus()).empty());
}

TEST(ErrorTest, ReasonsAreThoseOfTheApi) {
  const auto* api = tschandoff::v1::ErrorReason_descriptor();
  for (int i = 0; i < api->value_count(); ++i) {
    const int number = api->value(i)->number();
    if (number == tschandoff::v1::ERROR_REASON_UNSPECIFIED) continue;
    EXPECT_EQ(ReasonName(static_cast<Reason>(number)), api->value(i)->name());
    EXPECT_EQ(NextStep(static_cast<Reason>(number)).back(), '.') << api->value(i)->name();
  }
}

}  // namespace
}  // namespace tsc_handoff
