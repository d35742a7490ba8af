// The two clocks of a host that a reference is made of: its TSC and CLOCK_REALTIME.
//
// Threading: implementations may be called from any thread.
#ifndef TSC_HANDOFF_SERVER_CLOCK_HOST_CLOCK_H_
#define TSC_HANDOFF_SERVER_CLOCK_HOST_CLOCK_H_

#include <cstdint>

namespace tsc_handoff::clock {

class HostClock {
 public:
  virtual ~HostClock() = default;
  // Host TSC in ticks, ordered against the reads around it.
  virtual uint64_t ReadTsc() = 0;
  // CLOCK_REALTIME in ns since 1970.
  virtual int64_t ReadRealtimeNs() = 0;
};

// This machine's. Reads without a system call where the vDSO has one.
class LinuxHostClock final : public HostClock {
 public:
  uint64_t ReadTsc() override;
  int64_t ReadRealtimeNs() override;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_HOST_CLOCK_H_
