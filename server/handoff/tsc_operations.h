// Capture and apply of a VM's TSC state: puts registry, port, clock and time arithmetic together.
//
// Threading: may be used from any thread; operations on one VM exclude each other (kVmBusy), on
// different VMs run side by side. Calls block for as long as the VM's port does (about a second at
// the most).
#ifndef TSC_HANDOFF_SERVER_HANDOFF_TSC_OPERATIONS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_TSC_OPERATIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/clock/clock_source.h"
#include "server/clock/host_clock.h"
#include "server/host/host_facts.h"
#include "server/registry/vm_registry.h"
#include "server/time/handoff_math.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::handoff {

// What the agent's operator allows.
struct Limits {
  int64_t max_error_ns = 1'000'000;
  int64_t max_elapsed_ns = 300'000'000'000;
  uint32_t rate_uncertainty_ppm = 50;
  bool permit_untrusted_clock = false;  // a request may set allow_untrusted_clock
  bool permit_higher_error = false;     // a request may raise max_error_ns above the limit here
};

// See Warning.Code in tsc_agent.proto; the numbers are the same.
enum class WarningCode {
  kMasterClockOff = 1,
  kClockUntrusted = 2,
  kRateNotScaled = 3,
  kDeadlineNotKept = 4,
  kEqualised = 5,
  kTaiUnknown = 6,
  kKvmclockKept = 7,
};

struct Warning {
  WarningCode code;
  std::string message;
};

struct CaptureOutcome {
  time::TscState state;
  uint64_t phase_spread_ticks = 0;
  std::vector<Warning> warnings;
};

struct ApplyRequest {
  std::string vm_id;
  time::TscState state;
  time::ApplyMode mode = time::ApplyMode::kElapsed;
  int64_t max_error_ns = 0;    // 0: the limit
  int64_t max_elapsed_ns = 0;  // 0: the limit
  bool allow_untrusted_clock = false;
  bool equalise = false;
  bool keep_kvmclock = false;
  bool validate_only = false;
};

struct VcpuOutcome {
  uint32_t id = 0;
  uint64_t offset_before_ticks = 0;
  uint64_t offset_after_ticks = 0;
  uint64_t guest_tsc_ticks = 0;  // at the apply's reference, from offset_after
  uint64_t tsc_adjust_ticks = 0;
  uint64_t tsc_deadline_ticks = 0;
};

struct KvmClockOutcome {
  uint64_t kvmclock_ns = 0;  // intended, at the apply's reference
  int64_t error_ns = 0;      // read back minus intended
  int64_t read_error_ns = 0;
  bool master_clock = false;
};

struct ApplyOutcome {
  std::vector<VcpuOutcome> vcpus;
  time::TimeReference reference;
  int64_t elapsed_ns = 0;
  uint64_t elapsed_ticks = 0;
  std::optional<time::ErrorBound> bound;
  uint64_t phase_error_ticks = 0;
  uint64_t phase_spread_ticks = 0;
  std::optional<KvmClockOutcome> kvmclock;  // none: left alone
  std::vector<Warning> warnings;
  bool validated_only = false;
};

class TscOperations {
 public:
  // All references outlive this.
  TscOperations(const host::HostFacts& host, registry::VmRegistry& registry,
                clock::HostClock& host_clock, clock::ClockSource& clock_source, Limits limits)
      : host_(host),
        registry_(registry),
        host_clock_(host_clock),
        clock_source_(clock_source),
        limits_(limits) {}

  // GetTscState. Errors: see tsc_agent.proto.
  absl::StatusOr<CaptureOutcome> Capture(const std::string& vm_id);

  // SetTscState. Errors: see tsc_agent.proto.
  absl::StatusOr<ApplyOutcome> Apply(const ApplyRequest& request);

 private:
  absl::Status CheckHost() const;
  time::ApplyPolicy PolicyFor(const ApplyRequest& request) const;
  absl::StatusOr<time::TimeReference> TakeReference();
  // Takes a reference and plans by it. Two clocks that are right within their bounds can make a
  // state seem to come from the future; for as long as the largest error that is allowed, that is
  // waited for instead of refused. No guest TSC goes back either way.
  absl::StatusOr<time::ApplyPlan> PlanWhenTimeHasPassed(const time::TscState& state,
                                                        const time::TscScaling& scaling,
                                                        const time::ApplyPolicy& policy,
                                                        time::TimeReference& reference);

  const host::HostFacts& host_;
  registry::VmRegistry& registry_;
  clock::HostClock& host_clock_;
  clock::ClockSource& clock_source_;
  const Limits limits_;
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_TSC_OPERATIONS_H_
