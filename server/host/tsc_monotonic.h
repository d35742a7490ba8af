// Whether the TSCs of this host's CPUs are one clock: a thread goes from CPU to CPU and reads; a
// reading below an earlier one means that they are not synchronised, whatever the kernel's
// clocksource says.
//
// Finds differences above the time that a move takes (some microseconds); the kernel has looked for
// smaller ones itself before it chose the clocksource "tsc".
//
// Threading: pure but for the reader passed in; MonotonicAcrossCpus uses a thread of its own.
#ifndef TSC_HANDOFF_SERVER_HOST_TSC_MONOTONIC_H_
#define TSC_HANDOFF_SERVER_HOST_TSC_MONOTONIC_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tsc_handoff::host {

// Reads the TSC on a CPU; nullopt when the thread cannot be moved there.
using ReadTscOn = std::function<std::optional<uint64_t>(int cpu)>;

// Reads on each of `cpus` in ascending and then in descending order, so that each CPU is compared
// in both directions, until `spent()` says that the time allowed is over. Returns why the TSC is no
// clock; empty when nothing was found.
std::string FindTscGoingBack(const std::vector<int>& cpus, const ReadTscOn& read_tsc_on,
                             const std::function<bool()>& spent);

// The same on all CPUs that this process may use, within `budget`.
std::string MonotonicAcrossCpus(std::chrono::milliseconds budget);

}  // namespace tsc_handoff::host

#endif  // TSC_HANDOFF_SERVER_HOST_TSC_MONOTONIC_H_
