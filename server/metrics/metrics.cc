#include "server/metrics/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <list>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

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

prometheus::MetricFamily GaugeFamily(const std::string& name, const std::string& help) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Gauge;
  return family;
}

void AddGauge(prometheus::MetricFamily& family, double value,
              std::vector<prometheus::ClientMetric::Label> labels = {}) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  family.metric.push_back(std::move(metric));
}

// What is true now rather than what happened.
class LiveCollectable final : public prometheus::Collectable {
 public:
  explicit LiveCollectable(std::function<LiveValues()> live) : live_(std::move(live)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const LiveValues values = live_();
    std::vector<prometheus::MetricFamily> families;
    auto vms = GaugeFamily("tsc_agent_vms", "VMs that the agent can reach, by port.");
    AddGauge(vms, static_cast<double>(values.vms_in_process), {{"port", "in_process"}});
    AddGauge(vms, static_cast<double>(values.vms_cooperative), {{"port", "cooperative"}});
    families.push_back(std::move(vms));
    auto trusted =
        GaugeFamily("tsc_agent_clock_trusted", "1 when the host's wall clock may be relied on.");
    AddGauge(trusted, values.clock_trusted ? 1 : 0);
    families.push_back(std::move(trusted));
    auto bound = GaugeFamily(
        "tsc_agent_clock_error_bound_seconds",
        "Bound on the wall clock's difference from true time; absent when it is not trusted.");
    if (values.clock_trusted)
      AddGauge(bound, static_cast<double>(values.clock_error_bound_ns) * kSecondsPerNs);
    families.push_back(std::move(bound));
    auto status = GaugeFamily("tsc_agent_clock_status",
                              "1 for the status that the wall clock has, 0 for the others.");
    for (const char* name : kClockStatuses)
      AddGauge(status, values.clock_status == name ? 1 : 0, {{"status", name}});
    families.push_back(std::move(status));
    auto age = GaugeFamily("tsc_agent_clock_age_seconds",
                           "Time since the clock's source last stated a bound that was accepted.");
    AddGauge(age, static_cast<double>(values.clock_age_ns) * kSecondsPerNs);
    families.push_back(std::move(age));
    auto frequency = GaugeFamily(
        "tsc_agent_clock_frequency_correction_ratio",
        "Correction of the oscillator's frequency by the clock's discipline: its drift.");
    AddGauge(frequency, values.clock_frequency_correction);
    families.push_back(std::move(frequency));
    auto pending = GaugeFamily("tsc_agent_handoffs_pending",
                               "Handoffs that are neither finished nor aborted, by state.");
    for (const char* state : kPendingStates) {
      const auto found = values.handoffs_pending.find(state);
      AddGauge(pending,
               found == values.handoffs_pending.end() ? 0 : static_cast<double>(found->second),
               {{"state", state}});
    }
    families.push_back(std::move(pending));
    auto undecided = GaugeFamily(
        "tsc_agent_handoffs_undecided",
        "Pending handoffs that nobody has asked about for too long; their VMs stay paused.");
    AddGauge(undecided, static_cast<double>(values.handoffs_undecided));
    families.push_back(std::move(undecided));
    auto journal =
        GaugeFamily("tsc_agent_journal_usable",
                    "1 when the journal takes changes; without it nothing is handed off.");
    AddGauge(journal, values.journal_usable ? 1 : 0);
    families.push_back(std::move(journal));
    return families;
  }

 private:
  const std::function<LiveValues()> live_;
};

// Gauges per peer, for as many peers as are permitted.
class PeerGauges {
 public:
  explicit PeerGauges(prometheus::Registry& registry)
      : offset_(BuildGauge()
                    .Name("tsc_agent_peer_clock_offset_seconds")
                    .Help("This host's wall clock minus the peer's, by the last probe.")
                    .Register(registry)),
        offset_error_(BuildGauge()
                          .Name("tsc_agent_peer_clock_offset_error_seconds")
                          .Help("Half-width of the interval that holds the offset.")
                          .Register(registry)),
        round_trip_(BuildGauge()
                        .Name("tsc_agent_peer_round_trip_seconds")
                        .Help("Shortest round trip of the last probe.")
                        .Register(registry)) {}

  void Set(const std::string& peer, const ProbeValues& values) {
    std::lock_guard<std::mutex> lock(mutex_);
    peers_.remove(peer);
    peers_.push_front(peer);
    const std::map<std::string, std::string> labels = {{"peer", peer}};
    offset_.Add(labels).Set(static_cast<double>(values.offset_ns) * kSecondsPerNs);
    offset_error_.Add(labels).Set(static_cast<double>(values.offset_error_ns) * kSecondsPerNs);
    round_trip_.Add(labels).Set(static_cast<double>(values.round_trip_ns) * kSecondsPerNs);
    if (peers_.size() <= Metrics::kMaxPeers) return;
    const std::map<std::string, std::string> oldest = {{"peer", peers_.back()}};
    peers_.pop_back();
    offset_.Remove(&offset_.Add(oldest));
    offset_error_.Remove(&offset_error_.Add(oldest));
    round_trip_.Remove(&round_trip_.Add(oldest));
  }

 private:
  prometheus::Family<prometheus::Gauge>& offset_;
  prometheus::Family<prometheus::Gauge>& offset_error_;
  prometheus::Family<prometheus::Gauge>& round_trip_;
  std::mutex mutex_;
  std::list<std::string> peers_;  // most recently probed first; guarded by mutex_
};

}  // namespace

struct Metrics::Impl {
  explicit Impl(std::function<LiveValues()> live_values)
      : live(std::make_shared<LiveCollectable>(std::move(live_values))) {}

  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::shared_ptr<LiveCollectable> live;
  std::string grpc_service;

  prometheus::Family<prometheus::Counter>& rpc_started = BuildCounter()
                                                             .Name("grpc_server_started_total")
                                                             .Help("RPCs started on the server.")
                                                             .Register(*registry);
  prometheus::Family<prometheus::Counter>& rpc_handled =
      BuildCounter()
          .Name("grpc_server_handled_total")
          .Help("RPCs completed on the server, regardless of success or failure.")
          .Register(*registry);
  prometheus::Family<prometheus::Histogram>& rpc_seconds =
      BuildHistogram()
          .Name("grpc_server_handling_seconds")
          .Help("Time from the handler's start to the RPC's completion.")
          .Register(*registry);
  prometheus::Family<prometheus::Counter>& captures =
      BuildCounter()
          .Name("tsc_agent_captures_total")
          .Help("GetTscState by result and, for errors, reason.")
          .Register(*registry);
  prometheus::Family<prometheus::Counter>& applies =
      BuildCounter()
          .Name("tsc_agent_applies_total")
          .Help("SetTscState by result and, for errors, reason.")
          .Register(*registry);
  prometheus::Family<prometheus::Counter>& ioctl_errors =
      BuildCounter()
          .Name("tsc_agent_kvm_ioctl_errors_total")
          .Help("KVM ioctls that failed within a VMM, by ioctl and errno.")
          .Register(*registry);
  prometheus::Gauge& last_phase_spread =
      BuildGauge()
          .Name("tsc_agent_last_apply_phase_spread_ticks")
          .Help("Largest difference between two guest TSCs after the last apply, in TSC ticks.")
          .Register(*registry)
          .Add({});
  prometheus::Gauge& last_phase_error =
      BuildGauge()
          .Name("tsc_agent_last_apply_phase_error_ticks")
          .Help(
              "Change of the phase between guest TSCs by the last apply, in TSC ticks; 0 is exact.")
          .Register(*registry)
          .Add({});
  prometheus::Gauge& last_elapsed = BuildGauge()
                                        .Name("tsc_agent_last_apply_elapsed_seconds")
                                        .Help("Time from capture to the last apply.")
                                        .Register(*registry)
                                        .Add({});
  prometheus::Gauge& last_error_bound =
      BuildGauge()
          .Name("tsc_agent_last_apply_error_bound_seconds")
          .Help("Stated bound on the error of guest time of the last apply that had one.")
          .Register(*registry)
          .Add({});
  prometheus::Gauge& last_rate_error =
      BuildGauge()
          .Name("tsc_agent_last_apply_rate_error_ratio")
          .Help("By how much the guest of the last apply runs faster than its own frequency.")
          .Register(*registry)
          .Add({});
  prometheus::Histogram& commit_wait =
      BuildHistogram()
          .Name("tsc_agent_commit_wait_seconds")
          .Help("Time that applies waited until it was certain that time had passed.")
          .Register(*registry)
          .Add({}, kLatencyBuckets);
  prometheus::Counter& untrusted_applies =
      BuildCounter()
          .Name("tsc_agent_untrusted_clock_applies_total")
          .Help("Applies for which the caller accepted a clock that was not trusted.")
          .Register(*registry)
          .Add({});
  prometheus::Family<prometheus::Counter>& handoff_changes =
      BuildCounter()
          .Name("tsc_agent_handoff_changes_total")
          .Help("Handoffs that came into a state, by side and state.")
          .Register(*registry);
  prometheus::Counter& permit_violations =
      BuildCounter()
          .Name("tsc_agent_permit_violations_total")
          .Help("Times that a VM was found running without the agent's permit.")
          .Register(*registry)
          .Add({});
  prometheus::Histogram& journal_commit =
      BuildHistogram()
          .Name("tsc_agent_journal_commit_seconds")
          .Help("Time to make changes durable in the journal, with its sync of the disk.")
          .Register(*registry)
          .Add({}, kLatencyBuckets);
  PeerGauges peers{*registry};
  prometheus::Family<prometheus::Gauge>& build_info =
      BuildGauge()
          .Name("tsc_agent_build_info")
          .Help("1, labelled with the agent's version.")
          .Register(*registry);

  std::unique_ptr<prometheus::Exposer> exposer;  // ends before what it exposes
};

Metrics::Metrics(const std::string& grpc_service, const std::vector<std::string>& methods,
                 const std::string& version, std::function<LiveValues()> live)
    : impl_(std::make_unique<Impl>(std::move(live))) {
  impl_->grpc_service = grpc_service;
  impl_->build_info.Add({{"version", version}}).Set(1);
  impl_->captures.Add({{"result", "ok"}, {"reason", ""}});
  impl_->applies.Add({{"result", "ok"}, {"reason", ""}});
  for (const char* state : {"CAPTURED", "RELEASED", "ABORTED"})
    impl_->handoff_changes.Add({{"side", "source"}, {"state", state}});
  for (const char* state : {"EMPTY", "APPLYING", "APPLIED", "ACTIVE", "ABORTED"})
    impl_->handoff_changes.Add({{"side", "destination"}, {"state", state}});
  for (const std::string& method : methods) {
    impl_->rpc_started.Add({{"grpc_service", grpc_service}, {"grpc_method", method}});
    impl_->rpc_handled.Add(
        {{"grpc_service", grpc_service}, {"grpc_method", method}, {"grpc_code", "OK"}});
    impl_->rpc_seconds.Add({{"grpc_service", grpc_service}, {"grpc_method", method}},
                           kLatencyBuckets);
  }
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
  impl_->rpc_started.Add({{"grpc_service", impl_->grpc_service}, {"grpc_method", method}})
      .Increment();
}

void Metrics::RpcHandled(const std::string& method, const std::string& code, absl::Duration took) {
  impl_->rpc_handled
      .Add({{"grpc_service", impl_->grpc_service}, {"grpc_method", method}, {"grpc_code", code}})
      .Increment();
  impl_->rpc_seconds
      .Add({{"grpc_service", impl_->grpc_service}, {"grpc_method", method}}, kLatencyBuckets)
      .Observe(absl::ToDoubleSeconds(took));
}

void Metrics::CaptureDone(const std::string& reason) {
  impl_->captures.Add({{"result", reason.empty() ? "ok" : "error"}, {"reason", reason}})
      .Increment();
}

void Metrics::ApplyDone(const std::string& reason) {
  impl_->applies.Add({{"result", reason.empty() ? "ok" : "error"}, {"reason", reason}}).Increment();
}

void Metrics::Applied(const AppliedValues& values) {
  impl_->last_phase_spread.Set(static_cast<double>(values.phase_spread_ticks));
  impl_->last_phase_error.Set(static_cast<double>(values.phase_error_ticks));
  impl_->last_elapsed.Set(static_cast<double>(values.elapsed_ns) * kSecondsPerNs);
  impl_->last_rate_error.Set(values.rate_error_ppm * 1e-6);
  impl_->commit_wait.Observe(static_cast<double>(values.commit_wait_ns) * kSecondsPerNs);
  if (values.accepted_untrusted_clock) impl_->untrusted_applies.Increment();
  if (values.error_bound_ns >= 0)
    impl_->last_error_bound.Set(static_cast<double>(values.error_bound_ns) * kSecondsPerNs);
}

void Metrics::Probed(const std::string& peer, const ProbeValues& values) {
  impl_->peers.Set(peer, values);
}

void Metrics::IoctlFailed(const std::string& ioctl, const std::string& error_number) {
  impl_->ioctl_errors.Add({{"ioctl", ioctl}, {"errno", error_number}}).Increment();
}

void Metrics::HandoffChanged(const std::string& side, const std::string& state) {
  impl_->handoff_changes.Add({{"side", side}, {"state", state}}).Increment();
}

void Metrics::PermitViolated() { impl_->permit_violations.Increment(); }

void Metrics::JournalCommitted(absl::Duration took) {
  impl_->journal_commit.Observe(absl::ToDoubleSeconds(took));
}

std::string Metrics::Text() const {
  auto families = impl_->registry->Collect();
  for (auto& family : impl_->live->Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace tsc_handoff::metrics
