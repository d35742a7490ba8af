// The TSC state of a VM at one instant, as the agent's core knows it; the wire form is made by
// server/state.
//
// Plain values. Ticks are uint64 and wrap by design; wall-clock times are int64 ns since 1970 of
// CLOCK_REALTIME.
#ifndef TSC_HANDOFF_SERVER_TIME_TSC_STATE_H_
#define TSC_HANDOFF_SERVER_TIME_TSC_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tsc_handoff::time {

// How a (host TSC, wall clock) pair was taken.
enum class ReferenceMethod {
  kBracketed,    // RDTSC, clock_gettime, RDTSC; narrowest of several
  kKvmGetClock,  // KVM_GET_CLOCK's host_tsc and realtime
};

// A host's TSC and wall clock at one instant. See TimeReference in tsc_state.proto.
struct TimeReference {
  uint64_t host_tsc_ticks = 0;
  int64_t realtime_ns = 0;
  int32_t tai_offset_s = 0;    // CLOCK_TAI - CLOCK_REALTIME; 0 not known
  int64_t read_error_ns = 0;   // half-width of the reading
  int64_t clock_error_ns = 0;  // wall clock against true time; meaningful when clock_trusted
  bool clock_trusted = false;
  bool leap_second = false;  // one is pending, in progress or only just over
  uint32_t host_tsc_khz = 0;
  ReferenceMethod method = ReferenceMethod::kBracketed;
};

struct VcpuTsc {
  uint32_t id = 0;
  uint64_t guest_tsc_ticks = 0;
  uint64_t tsc_adjust_ticks = 0;
  uint64_t tsc_deadline_ticks = 0;  // a guest TSC value; 0 disarmed
};

struct KvmClockValue {
  uint64_t kvmclock_ns = 0;
  int64_t read_error_ns = 0;
  bool master_clock = false;
};

// Binds a state to one handoff. See HandoffTicket in tsc_state.proto.
struct HandoffTicket {
  std::string handoff_id;
  uint64_t epoch = 0;                // at least 1
  std::string source_agent_id;       // 16 bytes
  std::string destination_agent_id;  // 16 bytes
  std::string destination_vm_id;
  std::string release_digest;  // SHA-256, 32 bytes
  std::string abort_digest;    // SHA-256, 32 bytes

  bool operator==(const HandoffTicket&) const = default;
};

struct TscState {
  std::string vm_id;
  std::optional<TimeReference> reference;
  uint32_t guest_khz = 0;
  std::vector<VcpuTsc> vcpus;  // ascending ids
  std::optional<KvmClockValue> kvmclock;
  std::string boot_id;                   // 16 bytes or empty
  std::optional<HandoffTicket> handoff;  // none: a plain state
};

}  // namespace tsc_handoff::time

#endif  // TSC_HANDOFF_SERVER_TIME_TSC_STATE_H_
