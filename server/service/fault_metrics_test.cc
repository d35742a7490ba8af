#include "server/service/fault_metrics.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/error.h"

namespace tsc_handoff::service {
namespace {

using testing::HasSubstr;
using testing::Not;

class FaultMetricsTest : public testing::Test {
 protected:
  bool Has(const std::string& line) const {
    return metrics_.Text().find("\n" + line + "\n") != std::string::npos;
  }
  bool Has(const std::string& series, int value) const {
    return Has(series + " " + std::to_string(value));
  }

  metrics::Metrics metrics_{{}, [] { return metrics::LiveValues(); }};
};

constexpr char kRestored[] = "tsc_agent_rollbacks_total{result=\"restored\"}";
constexpr char kFailed[] = "tsc_agent_rollbacks_total{result=\"failed\"}";

TEST_F(FaultMetricsTest, AFailedWriteIsAnIoctlErrorAndARollback) {
  CountFault(Error(Reason::kKvmIoctlFailed, "x", {{"ioctl", "KVM_SET_MSRS"}, {"errno", "14"}}),
             metrics_);
  EXPECT_TRUE(Has("tsc_agent_kvm_ioctl_errors_total{errno=\"14\",ioctl=\"KVM_SET_MSRS\"} 1"));
  EXPECT_TRUE(Has(kRestored, 1));
  EXPECT_TRUE(Has(kFailed, 0));
}

TEST_F(FaultMetricsTest, AFailedReadRollsNothingBack) {
  CountFault(Error(Reason::kKvmIoctlFailed, "x", {{"ioctl", "KVM_GET_MSRS"}, {"errno", "14"}}),
             metrics_);
  EXPECT_TRUE(Has(kRestored, 0));
}

TEST_F(FaultMetricsTest, AnErrnoThatDoesNotExistIsNoLabel) {
  for (const char* wrong : {"0", "-1", "134", "x\",y=\"z"}) {
    CountFault(Error(Reason::kKvmIoctlFailed, "x", {{"ioctl", "KVM_GET_MSRS"}, {"errno", wrong}}),
               metrics_);
  }
  EXPECT_TRUE(Has("tsc_agent_kvm_ioctl_errors_total{errno=\"other\",ioctl=\"KVM_GET_MSRS\"} 4"));
}

TEST_F(FaultMetricsTest, AValueThatWasNotKeptIsNamed) {
  const struct {
    Reason reason;
    const char* value;
  } kRows[] = {{Reason::kTscProtected, "tsc_offset"},
               {Reason::kTscAdjustUnsupported, "tsc_adjust"},
               {Reason::kKvmIoctlFailed, "kvmclock"}};
  for (const auto& row : kRows) {
    CountFault(Error(row.reason, "x", {{"ioctl", "KVM_GET_MSRS"}}), metrics_);
    EXPECT_TRUE(
        Has("tsc_agent_readback_failures_total{value=\"" + std::string(row.value) + "\"}", 1));
  }
  EXPECT_TRUE(Has(kRestored, 3));
}

TEST_F(FaultMetricsTest, ARollbackThatFailedIsNoneThatRestored) {
  CountFault(Error(Reason::kRollbackFailed, "x", {{"ioctl", "KVM_SET_MSRS"}, {"errno", "14"}}),
             metrics_);
  EXPECT_TRUE(Has(kFailed, 1));
  EXPECT_TRUE(Has(kRestored, 0));
}

TEST_F(FaultMetricsTest, ARunningVmIsNoFault) {
  CountFault(Error(Reason::kVmRunning, "blocked", {{"ioctl", "KVM_SET_MSRS"}}), metrics_);
  CountFault(Error(Reason::kVmNotFound, "x"), metrics_);
  CountFault(absl::OkStatus(), metrics_);
  EXPECT_THAT(metrics_.Text(), Not(HasSubstr("tsc_agent_kvm_ioctl_errors_total{")));
  EXPECT_TRUE(Has(kRestored, 0));
}

}  // namespace
}  // namespace tsc_handoff::service
