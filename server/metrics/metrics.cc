#include "server/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <exception>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics/live_collectable.h"
#include "server/metrics/peer_gauges.h"

namespace tsc_handoff::metrics {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

// 10 us to 10 s.
const prometheus::Histogram::BucketBoundaries kLatencyBuckets = {
    0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
    0.02,    0.05,    0.1,     0.2,    0.5,    1,      2,     5,     10};

constexpr double kSecondsPerNs = 1e-9;

struct PhaseName {
  Phase phase;
  const char* side;
  const char* name;
};

constexpr std::array kPhases = {
    PhaseName{Phase::kCapture, "source", "capture"},
    PhaseName{Phase::kApply, "destination", "apply"},
    PhaseName{Phase::kSourceCommit, "source", "commit"},
    PhaseName{Phase::kDestinationCommit, "destination", "commit"},
    PhaseName{Phase::kSourceAbort, "source", "abort"},
    PhaseName{Phase::kDestinationAbort, "destination", "abort"},
};

const PhaseName& NameOf(Phase phase) { return kPhases.at(static_cast<size_t>(phase)); }

struct StepName {
  Step step;
  const char* phase;
  const char* name;
};

constexpr std::array kSteps = {
    StepName{Step::kCaptureRead, "capture", "read"},
    StepName{Step::kApplyRead, "apply", "read"},
    StepName{Step::kApplyProbe, "apply", "probe"},
    StepName{Step::kApplyWrite, "apply", "write"},
};

constexpr std::array kReadBacks = {"tsc_offset", "tsc_adjust", "kvmclock"};  // as ReadBack

using Labels = std::map<std::string, std::string>;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

Family<Counter>& Counters(prometheus::Registry& registry, const std::string& name,
                          const std::string& help) {
  return BuildCounter().Name(name).Help(help).Register(registry);
}

Family<Gauge>& Gauges(prometheus::Registry& registry, const std::string& name,
                      const std::string& help) {
  return BuildGauge().Name(name).Help(help).Register(registry);
}

Family<Histogram>& Histograms(prometheus::Registry& registry, const std::string& name,
                              const std::string& help) {
  return BuildHistogram().Name(name).Help(help).Register(registry);
}

Labels ResultLabels(const std::string& reason) {
  return {{"result", reason.empty() ? "ok" : "error"}, {"reason", reason}};
}

Labels PhaseLabels(const PhaseName& phase) { return {{"side", phase.side}, {"phase", phase.name}}; }

Labels StepLabels(const StepName& step) { return {{"phase", step.phase}, {"step", step.name}}; }

Labels With(Labels labels, const Labels& more) {
  labels.insert(more.begin(), more.end());
  return labels;
}

}  // namespace

struct Metrics::Impl {
  Impl(const MetricsOptions& options, std::function<LiveValues()> live_values)
      : live(std::make_shared<LiveCollectable>(std::move(live_values))),
        grpc_service(options.grpc_service) {}

  // So that every series that may be counted is there with 0.
  void MakeRpcs(const MetricsOptions& options);
  void MakeResults(const std::vector<std::string>& reasons);
  void MakeFaults(const std::vector<std::string>& ioctls);
  void MakeStates();

  Labels Rpc(const std::string& method) const {
    return {{"grpc_service", grpc_service}, {"grpc_method", method}};
  }

  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::shared_ptr<LiveCollectable> live;
  const std::string grpc_service;

  Family<Counter>& rpc_started =
      Counters(*registry, "grpc_server_started_total", "RPCs started on the server.");
  Family<Counter>& rpc_handled =
      Counters(*registry, "grpc_server_handled_total",
               "RPCs completed on the server, regardless of success or failure.");
  Family<Histogram>& rpc_seconds =
      Histograms(*registry, "grpc_server_handling_seconds",
                 "Time from the handler's start to the RPC's completion.");

  Family<Counter>& captures = Counters(*registry, "tsc_agent_captures_total",
                                       "GetTscState by result and, for errors, reason.");
  Family<Counter>& applies = Counters(*registry, "tsc_agent_applies_total",
                                      "SetTscState by result and, for errors, reason.");
  Family<Counter>& phases =
      Counters(*registry, "tsc_agent_handoff_phases_total",
               "Phases of handoffs that ended, by side, result and, for errors, reason.");
  Family<Histogram>& phase_seconds =
      Histograms(*registry, "tsc_agent_handoff_phase_seconds",
                 "Time that a phase of a handoff took the agent, of those that succeeded.");
  Family<Histogram>& step_seconds =
      Histograms(*registry, "tsc_agent_handoff_step_seconds",
                 "Time that a step within a capture or an apply took.");

  Family<Counter>& ioctl_errors =
      Counters(*registry, "tsc_agent_kvm_ioctl_errors_total",
               "KVM ioctls that failed within a VMM, by ioctl and errno.");
  Family<Counter>& readback_failures =
      Counters(*registry, "tsc_agent_readback_failures_total",
               "Applies undone because KVM did not keep a value that it had accepted.");
  Family<Counter>& rollbacks = Counters(
      *registry, "tsc_agent_rollbacks_total",
      "Writes that failed half-way: restored, or failed, which leaves the VM unfit to run.");

  Gauge& last_phase_spread =
      Gauges(*registry, "tsc_agent_last_apply_phase_spread_ticks",
             "Largest difference between two guest TSCs after the last apply, in TSC ticks.")
          .Add({});
  Gauge& last_phase_error =
      Gauges(*registry, "tsc_agent_last_apply_phase_error_ticks",
             "Change of the phase between guest TSCs by the last apply, in TSC ticks; 0 is exact.")
          .Add({});
  Gauge& last_elapsed = Gauges(*registry, "tsc_agent_last_apply_elapsed_seconds",
                               "Time from capture to the last apply.")
                            .Add({});
  Gauge& last_error_bound =
      Gauges(*registry, "tsc_agent_last_apply_error_bound_seconds",
             "Stated bound on the error of guest time of the last apply that had one.")
          .Add({});
  Gauge& last_rate_error =
      Gauges(*registry, "tsc_agent_last_apply_rate_error_ratio",
             "By how much the guest of the last apply runs faster than its own frequency.")
          .Add({});
  Histogram& elapsed = Histograms(*registry, "tsc_agent_apply_elapsed_seconds",
                                  "Time from capture to apply, by which guest time moved on.")
                           .Add({}, kLatencyBuckets);
  Histogram& error_bound = Histograms(*registry, "tsc_agent_apply_error_bound_seconds",
                                      "Stated bounds on the error of guest time.")
                               .Add({}, kLatencyBuckets);
  Histogram& commit_wait =
      Histograms(*registry, "tsc_agent_commit_wait_seconds",
                 "Time that applies waited until it was certain that time had passed.")
          .Add({}, kLatencyBuckets);
  Counter& phase_errors = Counters(*registry, "tsc_agent_phase_errors_total",
                                   "Applies after which the phase was not what it was before.")
                              .Add({});
  Counter& phase_changes =
      Counters(*registry, "tsc_agent_phase_changes_total",
               "Times that the phase of a VM's TSCs was found changed, by no handoff.")
          .Add({});
  Counter& untrusted_applies =
      Counters(*registry, "tsc_agent_untrusted_clock_applies_total",
               "Applies for which the caller accepted a clock that was not trusted.")
          .Add({});

  Family<Counter>& handoff_changes =
      Counters(*registry, "tsc_agent_handoff_changes_total",
               "Handoffs that came into a state, by side and state.");
  Family<Counter>& authorization_denied =
      Counters(*registry, "tsc_agent_authorization_denied_total",
               "Calls refused because their caller may not make them, by method.");
  Counter& rate_limited =
      Counters(*registry, "tsc_agent_rate_limited_total",
               "Requests refused because their sender sends more than --max-request-rate.")
          .Add({});
  Counter& streams_limited =
      Counters(*registry, "tsc_agent_streams_limited_total",
               "WatchHandoffs streams refused or ended: too many, or read too slowly.")
          .Add({});
  Counter& audit_write_errors =
      Counters(*registry, "tsc_agent_audit_write_errors_total",
               "Lines of the audit that its file did not take; they are in the log.")
          .Add({});
  Family<Counter>& connections_refused =
      Counters(*registry, "tsc_agent_connections_refused_total",
               "Connections of callers that were closed before gRPC had them, by what for.");
  Counter& registrations_denied =
      Counters(*registry, "tsc_agent_vmm_registrations_denied_total",
               "VMMs that were not let register a VM, because its id is another user's.")
          .Add({});
  Counter& permit_violations =
      Counters(*registry, "tsc_agent_permit_violations_total",
               "Times that a VM was found running without the agent's permit.")
          .Add({});
  Family<Counter>& certificate_reloads =
      Counters(*registry, "tsc_agent_certificate_reloads_total",
               "Changed certificate files that came into use (ok), or why they were refused.");
  Histogram& journal_commit =
      Histograms(*registry, "tsc_agent_journal_commit_seconds",
                 "Time to make changes durable in the journal, with its sync of the disk.")
          .Add({}, kLatencyBuckets);
  PeerGauges peers{*registry, kMaxPeers};
  Gauge& error_bound_limit =
      Gauges(*registry, "tsc_agent_error_bound_limit_seconds",
             "The --max-error: an apply whose bound would be above this is refused.")
          .Add({});
  Gauge& start_time = Gauges(*registry, "process_start_time_seconds",
                             "When the process started, in seconds since the Unix epoch.")
                          .Add({});
  Family<Gauge>& build_info =
      Gauges(*registry, "tsc_agent_build_info", "1, labelled with the agent's version.");

  std::unique_ptr<prometheus::Exposer> exposer;  // ends before what it exposes
};

void Metrics::Impl::MakeRpcs(const MetricsOptions& options) {
  for (const std::string& method : options.methods) {
    authorization_denied.Add(Rpc(method));
    rpc_started.Add(Rpc(method));
    rpc_seconds.Add(Rpc(method), kLatencyBuckets);
    for (const std::string& code : options.codes)
      rpc_handled.Add(With(Rpc(method), {{"grpc_code", code}}));
  }
}

void Metrics::Impl::MakeResults(const std::vector<std::string>& reasons) {
  std::vector<std::string> results = reasons;
  results.emplace_back();  // success
  for (const std::string& reason : results) {
    captures.Add(ResultLabels(reason));
    applies.Add(ResultLabels(reason));
    for (const PhaseName& phase : kPhases)
      phases.Add(With(PhaseLabels(phase), ResultLabels(reason)));
  }
  for (const PhaseName& phase : kPhases) phase_seconds.Add(PhaseLabels(phase), kLatencyBuckets);
  for (const StepName& step : kSteps) step_seconds.Add(StepLabels(step), kLatencyBuckets);
}

void Metrics::Impl::MakeFaults(const std::vector<std::string>& ioctls) {
  for (const std::string& ioctl : ioctls) ioctl_errors.Add({{"ioctl", ioctl}, {"errno", "other"}});
  for (const char* result : {"restored", "failed"}) rollbacks.Add({{"result", result}});
  for (const char* value : kReadBacks) readback_failures.Add({{"value", value}});
}

void Metrics::Impl::MakeStates() {
  for (const char* state : {"CAPTURED", "RELEASED", "ABORTED"})
    handoff_changes.Add({{"side", "source"}, {"state", state}});
  for (const char* state : {"EMPTY", "APPLYING", "APPLIED", "ACTIVE", "ABORTED"})
    handoff_changes.Add({{"side", "destination"}, {"state", state}});
}

Metrics::Metrics(const MetricsOptions& options, std::function<LiveValues()> live)
    : impl_(std::make_unique<Impl>(options, std::move(live))) {
  impl_->build_info.Add({{"version", options.version}}).Set(1);
  impl_->start_time.SetToCurrentTime();
  impl_->error_bound_limit.Set(static_cast<double>(options.max_error_ns) * kSecondsPerNs);
  impl_->MakeRpcs(options);
  impl_->MakeResults(options.reasons);
  impl_->MakeFaults(options.ioctls);
  impl_->MakeStates();
  for (const std::string& result : options.reloads)
    impl_->certificate_reloads.Add({{"result", result}});
  for (const std::string& what : options.refused_for)
    impl_->connections_refused.Add({{"for", what}});
}

Metrics::~Metrics() = default;

absl::StatusOr<int> Metrics::Expose(const std::string& address) {
  try {  // the library reports a port in use by an exception
    impl_->exposer = std::make_unique<prometheus::Exposer>(address, 1);
    impl_->exposer->RegisterCollectable(impl_->registry);
    impl_->exposer->RegisterCollectable(impl_->live);
    return impl_->exposer->GetListeningPorts().at(0);
  } catch (const std::exception& error) {
    return absl::FailedPreconditionError(absl::StrCat("cannot serve metrics at ", address, ": ",
                                                      error.what(), "; is the port in use?"));
  }
}

void Metrics::RpcStarted(const std::string& method) {
  impl_->rpc_started.Add(impl_->Rpc(method)).Increment();
}

void Metrics::RpcHandled(const std::string& method, const std::string& code, absl::Duration took) {
  impl_->rpc_handled.Add(With(impl_->Rpc(method), {{"grpc_code", code}})).Increment();
  impl_->rpc_seconds.Add(impl_->Rpc(method), kLatencyBuckets).Observe(absl::ToDoubleSeconds(took));
}

void Metrics::CaptureDone(const std::string& reason) {
  impl_->captures.Add(ResultLabels(reason)).Increment();
}

void Metrics::ApplyDone(const std::string& reason) {
  impl_->applies.Add(ResultLabels(reason)).Increment();
}

void Metrics::PhaseDone(Phase phase, const std::string& reason, absl::Duration took) {
  const Labels labels = PhaseLabels(NameOf(phase));
  impl_->phases.Add(With(labels, ResultLabels(reason))).Increment();
  if (!reason.empty()) return;
  impl_->phase_seconds.Add(labels, kLatencyBuckets).Observe(absl::ToDoubleSeconds(took));
}

void Metrics::StepTook(Step step, absl::Duration took) {
  impl_->step_seconds.Add(StepLabels(kSteps.at(static_cast<size_t>(step))), kLatencyBuckets)
      .Observe(absl::ToDoubleSeconds(took));
}

void Metrics::Applied(const AppliedValues& values) {
  impl_->last_phase_spread.Set(static_cast<double>(values.phase_spread_ticks));
  impl_->last_phase_error.Set(static_cast<double>(values.phase_error_ticks));
  impl_->last_elapsed.Set(static_cast<double>(values.elapsed_ns) * kSecondsPerNs);
  impl_->last_rate_error.Set(values.rate_error_ppm * 1e-6);
  impl_->elapsed.Observe(static_cast<double>(values.elapsed_ns) * kSecondsPerNs);
  impl_->commit_wait.Observe(static_cast<double>(values.commit_wait_ns) * kSecondsPerNs);
  if (values.phase_error_ticks != 0) impl_->phase_errors.Increment();
  if (values.accepted_untrusted_clock) impl_->untrusted_applies.Increment();
  if (values.error_bound_ns < 0) return;
  const double bound = static_cast<double>(values.error_bound_ns) * kSecondsPerNs;
  impl_->last_error_bound.Set(bound);
  impl_->error_bound.Observe(bound);
}

void Metrics::Probed(const std::string& peer, const ProbeValues& values) {
  impl_->peers.Set(peer, values);
}

void Metrics::IoctlFailed(const std::string& ioctl, const std::string& error_number) {
  impl_->ioctl_errors.Add({{"ioctl", ioctl}, {"errno", error_number}}).Increment();
}

void Metrics::ReadBackFailed(ReadBack value) {
  impl_->readback_failures.Add({{"value", kReadBacks.at(static_cast<size_t>(value))}}).Increment();
}

void Metrics::RolledBack(bool restored) {
  impl_->rollbacks.Add({{"result", restored ? "restored" : "failed"}}).Increment();
}

void Metrics::HandoffChanged(const std::string& side, const std::string& state) {
  impl_->handoff_changes.Add({{"side", side}, {"state", state}}).Increment();
}

void Metrics::AuthorizationDenied(const std::string& method) {
  impl_->authorization_denied.Add(impl_->Rpc(method)).Increment();
}

void Metrics::RateLimited() { impl_->rate_limited.Increment(); }

void Metrics::StreamLimited() { impl_->streams_limited.Increment(); }

void Metrics::AuditWriteFailed() { impl_->audit_write_errors.Increment(); }

void Metrics::ConnectionRefused(const std::string& what_for) {
  impl_->connections_refused.Add({{"for", what_for}}).Increment();
}

void Metrics::RegistrationDenied() { impl_->registrations_denied.Increment(); }

void Metrics::PermitViolated() { impl_->permit_violations.Increment(); }

void Metrics::PhaseChanged() { impl_->phase_changes.Increment(); }

void Metrics::CertificateReloaded(const std::string& result) {
  impl_->certificate_reloads.Add({{"result", result}}).Increment();
}

void Metrics::JournalCommitted(absl::Duration took) {
  impl_->journal_commit.Observe(absl::ToDoubleSeconds(took));
}

std::string Metrics::Text() const {
  auto families = impl_->registry->Collect();
  for (auto& family : impl_->live->Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace tsc_handoff::metrics
