// The clocks of a host that a time reference is made of, and waiting by them.
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
  // CLOCK_MONOTONIC in ns: slewed as CLOCK_REALTIME is, but never stepped, so that the difference
  // of the two changes exactly when CLOCK_REALTIME is stepped.
  virtual int64_t ReadMonotonicNs() = 0;
  // Returns after `ns` of CLOCK_MONOTONIC; at once when ns <= 0.
  virtual void SleepNs(int64_t ns) = 0;
};

// This machine's. Reads without a system call where the vDSO has one.
class LinuxHostClock final : public HostClock {
 public:
  uint64_t ReadTsc() override;
  int64_t ReadRealtimeNs() override;
  int64_t ReadMonotonicNs() override;
  void SleepNs(int64_t ns) override;
};

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_HOST_CLOCK_H_
