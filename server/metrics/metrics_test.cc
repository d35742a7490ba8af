#include "server/metrics/metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tsc_handoff::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

Metrics MakeMetrics(LiveValues live = {}) {
  return Metrics("tschandoff.v1.TscAgent", {"GetTscState", "SetTscState"}, "1.2.3",
                 [live] { return live; });
}

TEST(MetricsTest, EveryMethodIsThereWithZeroFromTheStart) {
  const std::string text = MakeMetrics().Text();
  for (const char* method : {"GetTscState", "SetTscState"}) {
    EXPECT_THAT(text, HasSubstr(std::string("grpc_server_started_total{grpc_method=\"") + method +
                                "\",grpc_service=\"tschandoff.v1.TscAgent\"} 0"));
  }
  EXPECT_THAT(text, HasSubstr("tsc_agent_build_info{version=\"1.2.3\"} 1"));
}

TEST(MetricsTest, CountsRpcsByMethodAndCode) {
  Metrics metrics = MakeMetrics();
  metrics.RpcStarted("SetTscState");
  metrics.RpcHandled("SetTscState", "FailedPrecondition", absl::Milliseconds(3));
  const std::string text = metrics.Text();
  EXPECT_THAT(
      text,
      HasSubstr(
          "grpc_server_handled_total{grpc_code=\"FailedPrecondition\",grpc_method=\"SetTscState\","
          "grpc_service=\"tschandoff.v1.TscAgent\"} 1"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "grpc_method=\"SetTscState\",grpc_service=\"tschandoff.v1.TscAgent\",le=\"0.005\"} 1"));
}

TEST(MetricsTest, AppliesCarryTheirReason) {
  Metrics metrics = MakeMetrics();
  metrics.ApplyDone("");
  metrics.ApplyDone("VM_RUNNING");
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("tsc_agent_applies_total{reason=\"\",result=\"ok\"} 1"));
  EXPECT_THAT(text, HasSubstr("tsc_agent_applies_total{reason=\"VM_RUNNING\",result=\"error\"} 1"));
}

TEST(MetricsTest, TheClockBoundIsAbsentWhileTheClockIsNotTrusted) {
  EXPECT_THAT(MakeMetrics({.clock_trusted = false}).Text(),
              Not(HasSubstr("\ntsc_agent_clock_error_bound_seconds ")));
  EXPECT_THAT(MakeMetrics({.clock_trusted = true, .clock_error_bound_ns = 500'000}).Text(),
              HasSubstr("\ntsc_agent_clock_error_bound_seconds 0.0005"));
}

TEST(MetricsTest, AnAddressInUseIsAnError) {
  Metrics first = MakeMetrics();
  auto port = first.Expose("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  Metrics second = MakeMetrics();
  EXPECT_FALSE(second.Expose("127.0.0.1:" + std::to_string(*port)).ok());
}

}  // namespace
}  // namespace tsc_handoff::metrics
