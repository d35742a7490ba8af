// The agent's metrics; the only package that knows prometheus-cpp. All families are built in the
// constructor, so that a handler never meets an exception of the library, and every series that
// may be counted is there with 0 from the start: rates see the first failure, too.
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
#include "server/metrics/event_values.h"
#include "server/metrics/live_values.h"

namespace tsc_handoff::metrics {

// What is known when the agent starts; all that may become a label's value is there with 0 then.
struct MetricsOptions {
  std::string grpc_service;
  std::vector<std::string> methods;           // of that service
  std::vector<std::string> codes;             // gRPC's status codes
  std::vector<std::string> reasons;           // of errors
  std::vector<std::string> ioctls;            // that may fail
  std::vector<std::string> reloads;           // what may become of a changed certificate
  std::vector<std::string> refused_for = {};  // why a connection may be closed
  std::string version;
  int64_t max_error_ns = 0;  // an apply whose bound is above this is refused
};

class Metrics {
 public:
  // `live` is called at each scrape and outlives this.
  Metrics(const MetricsOptions& options, std::function<LiveValues()> live);
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
  void ReadBackFailed(ReadBack value);
  // A write that failed half-way: every vCPU is as it was, or not even that.
  void RolledBack(bool restored);
  void StepTook(Step step, absl::Duration took);
  // A phase of a handoff ended; `reason` as above. `took` is kept of those that succeeded.
  void PhaseDone(Phase phase, const std::string& reason, absl::Duration took);

  // A handoff came into `state` ("CAPTURED") on its `side` ("source").
  void HandoffChanged(const std::string& side, const std::string& state);
  // A call was refused because its caller may not make it; `method` is one of the options'.
  void AuthorizationDenied(const std::string& method);
  // A request was refused because its sender sends too many.
  void RateLimited();
  // A WatchHandoffs stream was refused or ended because there are too many, or its reader is slow.
  void StreamLimited();
  // A line of the audit that its file did not take.
  void AuditWriteFailed();
  // A caller's connection was closed before gRPC had it; `what_for` is one of the options'.
  void ConnectionRefused(const std::string& what_for);
  // A VMM was not let register: the id is another user's, or the policy's.
  void RegistrationDenied();
  // A VM was found running without a permit.
  void PermitViolated();
  // The phase between a VM's TSCs was found changed, by no handoff.
  void PhaseChanged();
  // Other files were found where the certificate lies; `result` is one of those of the options.
  void CertificateReloaded(const std::string& result);
  void JournalCommitted(absl::Duration took);

  // What a scrape would show, in the text format.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_METRICS_H_
