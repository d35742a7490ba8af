// What every clock source takes from the kernel's NTP state, whoever else it asks: the TAI offset
// and leap seconds, which only adjtimex(2) tells.
//
// Threading: pure functions; SystemAdjtimex is a system call.
#ifndef TSC_HANDOFF_SERVER_CLOCK_KERNEL_TIMEX_H_
#define TSC_HANDOFF_SERVER_CLOCK_KERNEL_TIMEX_H_

#include <sys/timex.h>

#include <cstdint>
#include <functional>

namespace tsc_handoff::clock {

// Reads the kernel's values; `modes` is 0, so nothing is changed. Returns the clock's state
// (TIME_OK ...), or -errno.
using Adjtimex = std::function<int(timex*)>;
int SystemAdjtimex(timex* values);

// CLOCK_TAI - CLOCK_REALTIME in s, 10 to 1000; 0 when the kernel does not know it.
int32_t TaiOffsetS(const timex& values);

// A leap second is pending, in progress or only just over. `state` is what adjtimex returned.
bool LeapSecond(int state, const timex& values);

// Both of the above, as the kernel has them now; "not known" and "none" when adjtimex fails.
struct KernelTai {
  int32_t tai_offset_s = 0;
  bool leap_second = false;
};
KernelTai ReadKernelTai(const Adjtimex& adjtimex);

}  // namespace tsc_handoff::clock

#endif  // TSC_HANDOFF_SERVER_CLOCK_KERNEL_TIMEX_H_
