// What the agent's metrics show of the moment of a scrape.
//
// Threading: plain values.
#ifndef TSC_HANDOFF_SERVER_METRICS_LIVE_VALUES_H_
#define TSC_HANDOFF_SERVER_METRICS_LIVE_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tsc_handoff::metrics {

inline constexpr const char* kPorts[] = {"in_process", "cooperative", "attached", "none"};
inline constexpr const char* kRunStates[] = {"paused", "running", "unknown"};
inline constexpr const char* kPendingStates[] = {"CAPTURED", "EMPTY", "APPLYING", "APPLIED"};
inline constexpr const char* kClockStatuses[] = {"unknown", "synchronised", "free-running",
                                                 "disrupted"};

// One VM, for the series that have a VM's id.
struct VmValues {
  std::string vm_id;
  std::string run_state = "unknown";  // one of kRunStates
  size_t vcpus = 0;
  std::optional<uint64_t> phase_spread_ticks = {};  // none: not observed
};

// The VMs whose TSCs are looked at from outside.
struct ObservedValues {
  size_t vms = 0;
  size_t out_of_phase = 0;
  uint64_t most_spread_ticks = 0;
};

// The certificate that serves TCP, in seconds since the epoch.
struct CertificateValues {
  int64_t not_before_s = 0;
  int64_t not_after_s = 0;  // of the first to end in its chain
};

struct LiveValues {
  std::map<std::pair<std::string, std::string>, size_t> vms = {};  // by port and run state
  ObservedValues observed = {};
  // At most as many as the operator permits series for.
  std::vector<VmValues> shown_vms = {};
  bool clock_trusted = false;
  std::string clock_status = "unknown";  // one of kClockStatuses
  int64_t clock_error_bound_ns = 0;
  int64_t clock_age_ns = 0;
  double clock_frequency_correction = 0;                // a ratio
  std::map<std::string, size_t> handoffs_pending = {};  // by state, of kPendingStates
  size_t handoffs_undecided = 0;
  int64_t oldest_pending_ns = 0;  // since it was begun; 0: none is pending
  bool journal_usable = false;
  std::optional<CertificateValues> certificate = {};  // none: no TLS
};

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_LIVE_VALUES_H_
