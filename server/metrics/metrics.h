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
  int64_t clock_error_bound_ns = 0;
};

struct AppliedValues {
  uint64_t phase_spread_ticks = 0;
  uint64_t phase_error_ticks = 0;
  int64_t elapsed_ns = 0;
  int64_t error_bound_ns = -1;  // none
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
  void IoctlFailed(const std::string& ioctl, const std::string& error_number);

  // What a scrape would show, in the text format.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_METRICS_H_
