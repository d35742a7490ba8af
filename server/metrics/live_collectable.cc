#include "server/metrics/live_collectable.h"

#include <string>

namespace tsc_handoff::metrics {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;
using Families = std::vector<prometheus::MetricFamily>;

constexpr double kSecondsPerNs = 1e-9;

// A gauge family that is being filled.
class Gauges {
 public:
  Gauges(Families& families, const std::string& name, const std::string& help)
      : family_(families.emplace_back()) {
    family_.name = name;
    family_.help = help;
    family_.type = prometheus::MetricType::Gauge;
  }

  void Add(double value, Labels labels = {}) {
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    metric.gauge.value = value;
    family_.metric.push_back(std::move(metric));
  }

 private:
  prometheus::MetricFamily& family_;
};

double Seconds(int64_t ns) { return static_cast<double>(ns) * kSecondsPerNs; }

template <typename Map, typename Key>
double CountOf(const Map& counts, const Key& key) {
  const auto found = counts.find(key);
  return found == counts.end() ? 0 : static_cast<double>(found->second);
}

void CollectVms(const LiveValues& values, Families& families) {
  Gauges vms(families, "tsc_agent_vms",
             "VMs that the agent can reach, by port and by the state last seen.");
  for (const char* port : kPorts) {
    for (const char* state : kRunStates) {
      vms.Add(CountOf(values.vms, std::pair<std::string, std::string>(port, state)),
              {{"port", port}, {"state", state}});
    }
  }
  Gauges(families, "tsc_agent_observed_vms", "VMs whose TSCs are looked at in debugfs.")
      .Add(static_cast<double>(values.observed.vms));
  Gauges(families, "tsc_agent_observed_vms_out_of_phase",
         "Those of them whose vCPUs have not all one TSC offset and ratio.")
      .Add(static_cast<double>(values.observed.out_of_phase));
  Gauges(families, "tsc_agent_observed_phase_spread_max_ticks",
         "Largest difference between two TSCs of one of them.")
      .Add(static_cast<double>(values.observed.most_spread_ticks));
  if (values.shown_vms.empty()) return;
  {
    Gauges vcpus(families, "tsc_agent_vm_vcpus", "vCPUs of each VM, as it registered.");
    for (const VmValues& vm : values.shown_vms)
      vcpus.Add(static_cast<double>(vm.vcpus), {{"vm", vm.vm_id}});
  }
  {
    Gauges running(families, "tsc_agent_vm_running", "1 for a VM that was last seen running.");
    for (const VmValues& vm : values.shown_vms)
      running.Add(vm.run_state == "running" ? 1 : 0, {{"vm", vm.vm_id}});
  }
  Gauges spread(families, "tsc_agent_vm_phase_spread_ticks",
                "Largest difference between two TSCs of the VM, as last observed.");
  for (const VmValues& vm : values.shown_vms) {
    if (vm.phase_spread_ticks.has_value())
      spread.Add(static_cast<double>(*vm.phase_spread_ticks), {{"vm", vm.vm_id}});
  }
}

void CollectClock(const LiveValues& values, Families& families) {
  Gauges(families, "tsc_agent_clock_trusted", "1 when the host's wall clock may be relied on.")
      .Add(values.clock_trusted ? 1 : 0);
  {
    Gauges bound(
        families, "tsc_agent_clock_error_bound_seconds",
        "Bound on the wall clock's difference from true time; absent when it is not trusted.");
    if (values.clock_trusted) bound.Add(Seconds(values.clock_error_bound_ns));
  }
  {
    Gauges status(families, "tsc_agent_clock_status",
                  "1 for the status that the wall clock has, 0 for the others.");
    for (const char* name : kClockStatuses)
      status.Add(values.clock_status == name ? 1 : 0, {{"status", name}});
  }
  Gauges(families, "tsc_agent_clock_age_seconds",
         "Time since the clock's source last stated a bound that was accepted.")
      .Add(Seconds(values.clock_age_ns));
  Gauges(families, "tsc_agent_clock_frequency_correction_ratio",
         "Correction of the oscillator's frequency by the clock's discipline: its drift.")
      .Add(values.clock_frequency_correction);
}

void CollectHandoffs(const LiveValues& values, Families& families) {
  {
    Gauges pending(families, "tsc_agent_handoffs_pending",
                   "Handoffs that are neither finished nor aborted, by state.");
    for (const char* state : kPendingStates)
      pending.Add(CountOf(values.handoffs_pending, state), {{"state", state}});
  }
  Gauges(families, "tsc_agent_handoffs_undecided",
         "Pending handoffs that nobody has asked about for too long; their VMs stay paused.")
      .Add(static_cast<double>(values.handoffs_undecided));
  Gauges(families, "tsc_agent_handoff_oldest_pending_seconds",
         "Time since the oldest pending handoff was begun; 0 when none is pending.")
      .Add(Seconds(values.oldest_pending_ns));
  Gauges(families, "tsc_agent_journal_usable",
         "1 when the journal takes changes; without it nothing is handed off.")
      .Add(values.journal_usable ? 1 : 0);
}

void CollectCertificate(const LiveValues& values, Families& families) {
  if (!values.certificate.has_value()) return;
  Gauges(families, "tsc_agent_certificate_start_timestamp_seconds",
         "When the TLS certificate in use became valid, in seconds since the Unix epoch.")
      .Add(static_cast<double>(values.certificate->not_before_s));
  Gauges(families, "tsc_agent_certificate_expiry_timestamp_seconds",
         "When the TLS certificate in use, or one that vouches for it, expires; Unix time.")
      .Add(static_cast<double>(values.certificate->not_after_s));
}

}  // namespace

Families LiveCollectable::Collect() const {
  const LiveValues values = live_();
  Families families;
  families.reserve(24);  // Gauges hold on to theirs
  CollectVms(values, families);
  CollectClock(values, families);
  CollectHandoffs(values, families);
  CollectCertificate(values, families);
  return families;
}

}  // namespace tsc_handoff::metrics
