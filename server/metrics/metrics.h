// The agent's metrics; the only place that knows prometheus-cpp. All families are built in the
// constructor, so that a handler never meets an exception of the library, and every method of the
// API is there with 0 from the start.
//
// Units are Prometheus' base units: seconds, bytes; TSC ticks where ticks are meant.
//
// Threading: may be used from any thread.
#ifndef TSC_HANDOFF_SERVER_METRICS_METRICS_H_
#define TSC_HANDOFF_SERVER_METRICS_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tsc_handoff::metrics {

// Read at each scrape.
struct LiveValues {
  size_t vms_in_process = 0;
  size_t vms_cooperative = 0;
  bool clock_trusted = false;
  std::string clock_status = "unknown";  // one of kClockStatuses
  int64_t clock_error_bound_ns = 0;
  int64_t clock_age_ns = 0;
  double clock_frequency_correction = 0;  // a ratio
  std::map<std::string, size_t> handoffs_pending = {};  // by state, of kPendingStates
  size_t handoffs_undecided = 0;
  bool journal_usable = false;
};

inline constexpr const char* kPendingStates[] = {"CAPTURED", "EMPTY", "APPLYING", "APPLIED"};

inline constexpr const char* kClockStatuses[] = {"unknown", "synchronised", "free-running",
                                                 "disrupted"};

// What a probe of another host's clock found.
struct ProbeValues {
  int64_t offset_ns = 0;
  int64_t offset_error_ns = 0;
  int64_t round_trip_ns = 0;
};

struct AppliedValues {
  uint64_t phase_spread_ticks = 0;
  uint64_t phase_error_ticks = 0;
  int64_t elapsed_ns = 0;
  int64_t error_bound_ns = -1;  // none
  int64_t commit_wait_ns = 0;
  double rate_error_ppm = 0;
  bool accepted_untrusted_clock = false;
};

class Metrics {
 public:
  // `methods` are the names of the service's methods. `live` is called at each scrape and outlives
  // this.
  Metrics(const std::string& grpc_service, const std::vector<std::string>& methods,
          const std::string& version, std::function<LiveValues()> live);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Serves /metrics at "host:port" (port 0 chooses one). Returns the port. Errors (without a
  // Reason): cannot bind.
  absl::StatusOr<int> Expose(const std::string& address);

  void RpcStarted(const std::string& method);
  void RpcHandled(const std::string& method, const std::string& code, absl::Duration took);

  // `reason` is the ErrorReason's name, empty for success.
  void CaptureDone(const std::string& reason);
  void ApplyDone(const std::string& reason);
  void Applied(const AppliedValues& values);
  // At most kMaxPeers peers are kept; the one not probed for longest makes room.
  static constexpr size_t kMaxPeers = 64;
  void Probed(const std::string& peer, const ProbeValues& values);
  void IoctlFailed(const std::string& ioctl, const std::string& error_number);

  // A handoff came into `state` ("CAPTURED") on its `side` ("source").
  void HandoffChanged(const std::string& side, const std::string& state);
  // A VM was found running without a permit.
  void PermitViolated();
  void JournalCommitted(absl::Duration took);

  // What a scrape would show, in the text format.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_METRICS_H_
