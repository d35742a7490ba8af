#include "server/metrics/metrics.h"

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tsc_handoff::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

const MetricsOptions kOptions = {.grpc_service = "tschandoff.v1.TscAgent",
                                 .methods = {"GetTscState", "SetTscState"},
                                 .codes = {"OK", "FailedPrecondition"},
                                 .reasons = {"VM_RUNNING", "CLOCKS_DISAGREE"},
                                 .ioctls = {"KVM_SET_MSRS"},
                                 .reloads = {"ok", "expired"},
                                 .version = "1.2.3",
                                 .max_error_ns = 1'000'000};

Metrics MakeMetrics(LiveValues live = {}) {
  return Metrics(kOptions, [live] { return live; });
}

// Whether `text` has this line, which is the series and its value.
testing::Matcher<std::string> HasLine(const std::string& line) {
  return HasSubstr("\n" + line + "\n");
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

TEST(MetricsTest, TheClockHasOneStatus) {
  for (const std::string current : kClockStatuses) {
    const std::string text = MakeMetrics({.clock_status = current}).Text();
    for (const std::string status : kClockStatuses) {
      EXPECT_THAT(text, HasSubstr("\ntsc_agent_clock_status{status=\"" + status + "\"} " +
                                  (status == current ? "1" : "0") + "\n"));
    }
  }
}

TEST(MetricsTest, AClockOfWhichNothingIsKnownHasAStatusToo) {
  EXPECT_THAT(MakeMetrics().Text(), HasSubstr("tsc_agent_clock_status{status=\"unknown\"} 1\n"));
}

TEST(MetricsTest, ShowsTheClocksAgeAndDrift) {
  const std::string text =
      MakeMetrics({.clock_age_ns = 2'500'000'000, .clock_frequency_correction = -12.5e-6}).Text();
  EXPECT_THAT(text, HasSubstr("\ntsc_agent_clock_age_seconds 2.5\n"));
  EXPECT_THAT(text, HasSubstr("\ntsc_agent_clock_frequency_correction_ratio -1.25e-05\n"));
}

TEST(MetricsTest, LiveValuesAreThoseOfTheMomentOfTheScrape) {
  LiveValues live;
  Metrics metrics(kOptions, [&live] { return live; });
  EXPECT_THAT(metrics.Text(), HasSubstr("\ntsc_agent_clock_trusted 0\n"));
  live.clock_trusted = true;
  live.vms[{"cooperative", "running"}] = 3;
  live.observed = {.vms = 5, .out_of_phase = 2, .most_spread_ticks = 35'000};
  EXPECT_THAT(metrics.Text(), HasSubstr("\ntsc_agent_clock_trusted 1\n"));
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_vms{port=\"cooperative\",state=\"running\"} 3"));
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_observed_vms 5"));
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_observed_vms_out_of_phase 2"));
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_observed_phase_spread_max_ticks 35000"));
}

TEST(MetricsTest, EveryResultIsThereWithZeroFromTheStart) {
  const std::string text = MakeMetrics().Text();
  for (const char* line :
       {"grpc_server_handled_total{grpc_code=\"FailedPrecondition\",grpc_method=\"SetTscState\","
        "grpc_service=\"tschandoff.v1.TscAgent\"} 0",
        "tsc_agent_captures_total{reason=\"VM_RUNNING\",result=\"error\"} 0",
        "tsc_agent_handoff_phases_total{phase=\"apply\",reason=\"CLOCKS_DISAGREE\",result="
        "\"error\","
        "side=\"destination\"} 0",
        "tsc_agent_handoff_phase_seconds_count{phase=\"commit\",side=\"source\"} 0",
        "tsc_agent_kvm_ioctl_errors_total{errno=\"other\",ioctl=\"KVM_SET_MSRS\"} 0",
        "tsc_agent_rollbacks_total{result=\"failed\"} 0",
        "tsc_agent_readback_failures_total{value=\"kvmclock\"} 0",
        "tsc_agent_vms{port=\"in_process\",state=\"unknown\"} 0"}) {
    EXPECT_THAT(text, HasLine(line));
  }
}

TEST(MetricsTest, APhaseThatSucceededLeavesItsDuration) {
  Metrics metrics = MakeMetrics();
  metrics.PhaseDone(Phase::kApply, "", absl::Milliseconds(3));
  metrics.PhaseDone(Phase::kApply, "CLOCKS_DISAGREE", absl::Seconds(3));
  const std::string text = metrics.Text();
  for (const char* line :
       {"tsc_agent_handoff_phases_total{phase=\"apply\",reason=\"\",result=\"ok\","
        "side=\"destination\"} 1",
        "tsc_agent_handoff_phases_total{phase=\"apply\",reason=\"CLOCKS_DISAGREE\",result="
        "\"error\","
        "side=\"destination\"} 1",
        "tsc_agent_handoff_phase_seconds_count{phase=\"apply\",side=\"destination\"} 1",
        "tsc_agent_handoff_phase_seconds_sum{phase=\"apply\",side=\"destination\"} 0.003"}) {
    EXPECT_THAT(text, HasLine(line));
  }
}

TEST(MetricsTest, EachPhaseStepAndReadBackHasItsName) {
  Metrics metrics = MakeMetrics();
  metrics.PhaseDone(Phase::kDestinationAbort, "", absl::Seconds(1));
  metrics.StepTook(Step::kApplyProbe, absl::Seconds(1));
  metrics.StepTook(Step::kApplyWrite, absl::Seconds(2));
  metrics.ReadBackFailed(ReadBack::kTscAdjust);
  metrics.RolledBack(true);
  const std::string text = metrics.Text();
  for (const char* line :
       {"tsc_agent_handoff_phase_seconds_count{phase=\"abort\",side=\"destination\"} 1",
        "tsc_agent_handoff_step_seconds_sum{phase=\"apply\",step=\"probe\"} 1",
        "tsc_agent_handoff_step_seconds_sum{phase=\"apply\",step=\"write\"} 2",
        "tsc_agent_readback_failures_total{value=\"tsc_adjust\"} 1",
        "tsc_agent_rollbacks_total{result=\"restored\"} 1",
        "tsc_agent_rollbacks_total{result=\"failed\"} 0"}) {
    EXPECT_THAT(text, HasLine(line));
  }
}

TEST(MetricsTest, OnlyVmsThatAreShownHaveSeriesOfTheirOwn) {
  EXPECT_THAT(MakeMetrics().Text(), Not(HasSubstr("vm=")));
  const std::string text = MakeMetrics({.shown_vms = {{.vm_id = "db-7",
                                                       .run_state = "running",
                                                       .vcpus = 4,
                                                       .phase_spread_ticks = 17},
                                                      {.vm_id = "web"}}})
                               .Text();
  for (const char* line :
       {"tsc_agent_vm_vcpus{vm=\"db-7\"} 4", "tsc_agent_vm_running{vm=\"db-7\"} 1",
        "tsc_agent_vm_phase_spread_ticks{vm=\"db-7\"} 17", "tsc_agent_vm_running{vm=\"web\"} 0"}) {
    EXPECT_THAT(text, HasLine(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("phase_spread_ticks{vm=\"web\"")));
}

TEST(MetricsTest, AChangedPhaseIsCounted) {
  Metrics metrics = MakeMetrics();
  metrics.Applied({.phase_error_ticks = 0});
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_phase_errors_total 0"));
  metrics.Applied({.phase_error_ticks = 1});
  metrics.PhaseChanged();
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_phase_errors_total 1"));
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_phase_changes_total 1"));
}

TEST(MetricsTest, ACertificateHasItsTimesAndWithoutTlsThereAreNone) {
  EXPECT_THAT(MakeMetrics().Text(), Not(HasSubstr("tsc_agent_certificate_expiry")));
  LiveValues live;
  live.certificate = CertificateValues{1'700'000'000, 1'700'086'400};
  const std::string text = MakeMetrics(live).Text();
  EXPECT_THAT(text, HasLine("tsc_agent_certificate_start_timestamp_seconds 1700000000"));
  EXPECT_THAT(text, HasLine("tsc_agent_certificate_expiry_timestamp_seconds 1700086400"));
}

TEST(MetricsTest, ReloadedCertificatesAreCountedByWhatBecameOfThem) {
  Metrics metrics = MakeMetrics();
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_certificate_reloads_total{result=\"ok\"} 0"));
  metrics.CertificateReloaded("expired");
  EXPECT_THAT(metrics.Text(), HasLine("tsc_agent_certificate_reloads_total{result=\"expired\"} 1"));
}

TEST(MetricsTest, AnApplyLeavesItsFigures) {
  Metrics metrics = MakeMetrics();
  metrics.Applied({.phase_spread_ticks = 100,
                   .phase_error_ticks = 2,
                   .elapsed_ns = 1'500'000'000,
                   .error_bound_ns = 250'000'000,
                   .rate_error_ppm = -125});
  const std::string text = metrics.Text();
  for (const char* line :
       {"tsc_agent_last_apply_phase_spread_ticks 100", "tsc_agent_last_apply_phase_error_ticks 2",
        "tsc_agent_last_apply_elapsed_seconds 1.5", "tsc_agent_last_apply_error_bound_seconds 0.25",
        "tsc_agent_last_apply_rate_error_ratio -0.000125"}) {
    EXPECT_THAT(text, HasSubstr("\n" + std::string(line)));
  }
}

TEST(MetricsTest, AnApplyWithoutABoundKeepsTheLastOne) {
  Metrics metrics = MakeMetrics();
  metrics.Applied({.error_bound_ns = 250'000'000});
  metrics.Applied({.error_bound_ns = -1});
  EXPECT_THAT(metrics.Text(), HasSubstr("\ntsc_agent_last_apply_error_bound_seconds 0.25\n"));
}

TEST(MetricsTest, CommitWaitsAreAHistogram) {
  Metrics metrics = MakeMetrics();
  EXPECT_THAT(metrics.Text(), HasSubstr("\ntsc_agent_commit_wait_seconds_count 0\n"));
  metrics.Applied({.commit_wait_ns = 0});
  metrics.Applied({.commit_wait_ns = 3'000'000});
  metrics.Applied({.commit_wait_ns = 247'000'000});
  const std::string text = metrics.Text();
  for (const char* line :
       {"_bucket{le=\"1e-05\"} 1", "_bucket{le=\"0.002\"} 1", "_bucket{le=\"0.005\"} 2",
        "_bucket{le=\"0.2\"} 2", "_bucket{le=\"0.5\"} 3", "_bucket{le=\"+Inf\"} 3", "_count 3",
        "_sum 0.25"}) {
    EXPECT_THAT(text, HasSubstr("\ntsc_agent_commit_wait_seconds" + std::string(line) + "\n"));
  }
}

TEST(MetricsTest, CountsAppliesThatAcceptedAnUntrustedClock) {
  Metrics metrics = MakeMetrics();
  EXPECT_THAT(metrics.Text(), HasSubstr("\ntsc_agent_untrusted_clock_applies_total 0\n"));
  metrics.Applied({.accepted_untrusted_clock = true});
  metrics.Applied({.accepted_untrusted_clock = false});
  metrics.Applied({.accepted_untrusted_clock = true});
  EXPECT_THAT(metrics.Text(), HasSubstr("\ntsc_agent_untrusted_clock_applies_total 2\n"));
}

// Of a family and a peer, the line in `text` up to its value.
std::string PeerLine(const std::string& family, const std::string& peer) {
  return "\ntsc_agent_peer_" + family + "{peer=\"" + peer + "\"} ";
}

TEST(MetricsTest, AProbeLeavesItsFiguresByPeer) {
  Metrics metrics = MakeMetrics();
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("{peer="))) << "nobody was probed";
  metrics.Probed("a:1", {.offset_ns = -1'500'000, .offset_error_ns = 1, .round_trip_ns = 2});
  metrics.Probed("b:1", {.offset_ns = 7, .offset_error_ns = 125'000, .round_trip_ns = 250'000});
  metrics.Probed("a:1", {.offset_ns = 500'000'000, .offset_error_ns = 2, .round_trip_ns = 3});
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr(PeerLine("clock_offset_seconds", "a:1") + "0.5\n")) << "the newest";
  EXPECT_THAT(text, HasSubstr(PeerLine("clock_offset_error_seconds", "b:1") + "0.000125\n"));
  EXPECT_THAT(text, HasSubstr(PeerLine("round_trip_seconds", "b:1") + "0.00025\n"));
}

std::string Peer(size_t i) { return "peer-" + std::to_string(i) + ":50051"; }

TEST(MetricsTest, AsManyPeersAsArePermittedAreShown) {
  Metrics metrics = MakeMetrics();
  for (size_t i = 0; i < Metrics::kMaxPeers; ++i) metrics.Probed(Peer(i), {});
  metrics.Probed(Peer(0), {});  // it is not the one that was not probed for longest any more
  metrics.Probed(Peer(Metrics::kMaxPeers), {});
  const std::string text = metrics.Text();
  for (const char* family :
       {"clock_offset_seconds", "clock_offset_error_seconds", "round_trip_seconds"}) {
    for (size_t i = 0; i <= Metrics::kMaxPeers; ++i) {
      const bool shown = text.find(PeerLine(family, Peer(i))) != std::string::npos;
      EXPECT_EQ(shown, i != 1) << family << " of " << Peer(i);
    }
  }
}

TEST(MetricsTest, APeerThatMadeRoomComesBack) {
  Metrics metrics = MakeMetrics();
  for (size_t i = 0; i < 3 * Metrics::kMaxPeers; ++i) metrics.Probed(Peer(i), {});
  EXPECT_THAT(metrics.Text(), Not(HasSubstr(PeerLine("round_trip_seconds", Peer(0)))));
  metrics.Probed(Peer(0), {.round_trip_ns = 500'000'000});
  EXPECT_THAT(metrics.Text(), HasSubstr(PeerLine("round_trip_seconds", Peer(0)) + "0.5\n"));
}

TEST(MetricsTest, ManyThreadsMayProbe) {
  Metrics metrics = MakeMetrics();
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&metrics, thread] {
      for (size_t i = 0; i < 200; ++i) metrics.Probed(Peer(i * (thread + 1)), {});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = metrics.Text();
  const std::string family = "\ntsc_agent_peer_round_trip_seconds{";
  size_t shown = 0;
  for (size_t at = text.find(family); at != std::string::npos; at = text.find(family, at + 1))
    ++shown;
  EXPECT_EQ(shown, Metrics::kMaxPeers);
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
