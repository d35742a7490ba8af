// HostClock: the clocks of one simulated host, each with its own errors against true time: the TSC
// (start value, rate) and CLOCK_REALTIME / CLOCK_TAI (offset, rate).
//
// Read...() is what a program on the host sees; reading takes time where a test injected a delay,
// the way an SMI or a preemption makes it take time. Peek...() is the ground truth and takes none.
//
// Threading: safe from any thread.
#ifndef TSC_HANDOFF_TESTS_SIM_HOST_CLOCK_H_
#define TSC_HANDOFF_TESTS_SIM_HOST_CLOCK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "tests/sim/sim_time.h"

namespace tsc_handoff::sim {

struct HostClockOptions {
  // What the kernel believes the TSC's frequency to be.
  uint32_t tsc_khz = 2'100'000;
  // By how much the TSC really runs faster than that.
  int64_t tsc_rate_error_ppb = 0;
  // The TSC at true time 0.
  uint64_t tsc_start_ticks = 0x0000'1234'5678'9abc;
  // CLOCK_REALTIME at true time 0, when it is right: 2023-11-14.
  int64_t realtime_start_ns = 1'700'000'000'000'000'000;
  // By how much CLOCK_REALTIME is ahead of true time at true time 0, and how much faster it runs.
  int64_t realtime_error_ns = 0;
  int64_t realtime_rate_error_ppb = 0;
  // CLOCK_TAI minus CLOCK_REALTIME; 0 on hosts where nothing set it.
  int32_t tai_offset_s = 37;
};

class HostClock {
 public:
  HostClock(std::shared_ptr<SimTime> time, const HostClockOptions& options);

  uint64_t ReadTsc();
  int64_t ReadRealtimeNs();
  int64_t ReadTaiNs();
  int64_t ReadMonotonicNs();

  uint64_t PeekTsc() const { return TscAt(time_->NowNs()); }
  int64_t PeekRealtimeNs() const { return RealtimeAt(time_->NowNs()); }
  int64_t PeekMonotonicNs() const { return MonotonicAt(time_->NowNs()); }

  // The clocks at a moment of true time.
  uint64_t TscAt(int64_t true_ns) const;
  int64_t RealtimeAt(int64_t true_ns) const;
  // Slewed as CLOCK_REALTIME is, and not moved by SetRealtimeErrorNs, which is a step.
  int64_t MonotonicAt(int64_t true_ns) const;

  // Time since boot as the kernel computes it from a reading of the TSC, by the frequency it
  // believes in.
  int64_t KernelNsAt(uint64_t tsc_ticks) const;

  void SetRealtimeErrorNs(int64_t error_ns);
  void SetTaiOffsetS(int32_t offset_s);

  // From now on each Read...() takes `ns` before it takes the value. 0 ends it.
  void DelayEachRead(int64_t ns);
  // The nth Read...() from now, counted from 1, takes `ns` more.
  void DelayRead(uint64_t nth, int64_t ns);

  uint32_t tsc_khz() const { return options_.tsc_khz; }
  int32_t tai_offset_s() const;
  SimTime& time() const { return *time_; }

 private:
  void BeforeRead();

  const std::shared_ptr<SimTime> time_;
  const HostClockOptions options_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  int64_t realtime_error_ns_;
  int32_t tai_offset_s_;
  uint64_t reads_ = 0;
  int64_t each_delay_ns_ = 0;
  std::map<uint64_t, int64_t> delays_;  // by the number of the read
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_HOST_CLOCK_H_
