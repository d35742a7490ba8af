// The machine's steady time, by which ages are told; a step of the wall clock moves none of them.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_STEADY_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_STEADY_H_

#include <chrono>
#include <cstdint>

namespace tsc_handoff::tscctl {

using SteadyTime = std::chrono::steady_clock::time_point;

inline SteadyTime SteadyNow() { return std::chrono::steady_clock::now(); }

// From `earlier` to `later`, in ns.
inline int64_t NsBetween(SteadyTime earlier, SteadyTime later) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(later - earlier).count();
}

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_STEADY_H_
