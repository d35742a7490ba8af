// Capture and apply of a VM's TSC state: puts registry, port, clock and time arithmetic together.
//
// Threading: may be used from any thread; operations on one VM exclude each other (kVmBusy), on
// different VMs run side by side. Calls block for as long as the VM's port does (about a second at
// the most).
#ifndef TSC_HANDOFF_SERVER_HANDOFF_TSC_OPERATIONS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_TSC_OPERATIONS_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/handoff/limits.h"
#include "server/handoff/saved_tscs.h"
#include "server/handoff/timekeeper.h"
#include "server/host/host_facts.h"
#include "server/port/vm_port.h"
#include "server/registry/vm_registry.h"
#include "server/time/handoff_math.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::handoff {

// See Warning.Code in tsc_agent.proto; the numbers are the same.
enum class WarningCode {
  kMasterClockOff = 1,
  kClockUntrusted = 2,
  kRateNotScaled = 3,
  kDeadlineNotKept = 4,
  kEqualised = 5,
  kTaiUnknown = 6,
  kKvmclockKept = 7,
  kClocksNotProbed = 8,
};

struct Warning {
  WarningCode code;
  std::string message;
};

struct CaptureOutcome {
  time::TscState state;
  int64_t read_ns = 0;  // that the VM's port took
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
  std::string source_agent;  // empty: the source's clock is not probed
  int64_t time_left_ns = std::numeric_limits<int64_t>::max();  // until the caller's deadline
  // Whether the VMM gives up its permit to run together with the write.
  port::Hold hold = port::Hold::kNo;
  // OPTIONAL. Called when everything is decided and nothing is written yet, with what the VM has
  // and what it will get. An error ends the apply with that error.
  std::function<absl::Status(const SavedTscs& before, const SavedTscs& after)> before_write = {};
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

// What an apply spent its time with, besides the commit-wait; 0: not done.
struct ApplyDurations {
  int64_t read_ns = 0;
  int64_t probe_ns = 0;
  int64_t write_ns = 0;
};

struct ApplyOutcome {
  std::vector<VcpuOutcome> vcpus;
  Reckoning time;
  double rate_error_ppm = 0;
  uint64_t phase_error_ticks = 0;
  uint64_t phase_spread_ticks = 0;
  std::optional<KvmClockOutcome> kvmclock;  // none: left alone
  std::vector<Warning> warnings;
  bool validated_only = false;
  ApplyDurations took;
};

class TscOperations {
 public:
  // All references outlive this.
  TscOperations(const host::HostFacts& host, registry::VmRegistry& registry, Timekeeper& timekeeper,
                const Limits& limits)
      : host_(host), registry_(registry), timekeeper_(timekeeper), limits_(limits) {}

  // Holds for what begins afterwards.
  void set_limits(const Limits& limits) { limits_.Set(limits); }

  // GetTscState. With Hold::kYes the VMM gives up its permit to run together with the reading.
  // Errors: see tsc_agent.proto.
  absl::StatusOr<CaptureOutcome> Capture(const std::string& vm_id, port::Hold hold);

  // SetTscState. Errors: see tsc_agent.proto.
  absl::StatusOr<ApplyOutcome> Apply(const ApplyRequest& request);

  // Writes back what a VM had before an apply, if it still has what the apply wrote; leaves it
  // alone otherwise. Its kvmclock goes on as if it had never been moved. Errors: as Apply's.
  absl::Status Restore(const std::string& vm_id, const SavedTscs& before, const SavedTscs& after);

 private:
  absl::Status CheckHost() const;
  time::ApplyPolicy PolicyFor(const ApplyRequest& request) const;
  absl::Status ExplainPolicy(const ApplyRequest& request, absl::Status status) const;

  const host::HostFacts& host_;
  registry::VmRegistry& registry_;
  Timekeeper& timekeeper_;
  LiveLimits limits_;
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_TSC_OPERATIONS_H_
