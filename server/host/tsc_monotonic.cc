#include "server/host/tsc_monotonic.h"

#include <sched.h>
#include <x86intrin.h>

#include <thread>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::host {
namespace {

// More than any x86 machine has; a mask that is too small makes sched_getaffinity fail.
constexpr int kMaxCpus = 8192;

// A CPU set of kMaxCpus, which cpu_set_t is too small for.
class CpuMask {
 public:
  CpuMask() : set_(kMaxCpus / kBitsPerWord) {}
  cpu_set_t* get() { return reinterpret_cast<cpu_set_t*>(set_.data()); }
  size_t bytes() const { return set_.size() * sizeof(uint64_t); }
  void Add(int cpu) { set_[cpu / kBitsPerWord] |= uint64_t{1} << (cpu % kBitsPerWord); }
  bool Has(int cpu) const { return ((set_[cpu / kBitsPerWord] >> (cpu % kBitsPerWord)) & 1) != 0; }

 private:
  static constexpr int kBitsPerWord = 64;
  std::vector<uint64_t> set_;
};

std::vector<int> AllowedCpus() {
  CpuMask mask;
  std::vector<int> cpus;
  if (sched_getaffinity(0, mask.bytes(), mask.get()) != 0) return cpus;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (mask.Has(cpu)) cpus.push_back(cpu);
  }
  return cpus;
}

std::optional<uint64_t> CpuTscReader(int cpu) {
  CpuMask mask;
  mask.Add(cpu);
  if (sched_setaffinity(0, mask.bytes(), mask.get()) != 0) return std::nullopt;
  unsigned int core;
  const uint64_t tsc_ticks = __rdtscp(&core);
  _mm_lfence();
  return tsc_ticks;
}

struct Reading {
  int cpu = 0;
  uint64_t tsc_ticks = 0;
};

}  // namespace

std::string FindTscGoingBack(const std::vector<int>& cpus, const ReadTscOn& read_tsc_on,
                             const std::function<bool()>& spent) {
  std::vector<int> order(cpus);
  order.insert(order.end(), cpus.rbegin(), cpus.rend());
  std::optional<Reading> last;
  for (const int cpu : order) {
    if (spent()) break;
    const std::optional<uint64_t> tsc_ticks = read_tsc_on(cpu);
    if (!tsc_ticks.has_value()) continue;
    if (last.has_value() && *tsc_ticks < last->tsc_ticks) {
      return absl::StrCat(
          "the TSC of CPU ", cpu, " is at least ", last->tsc_ticks - *tsc_ticks,
          " ticks behind that of CPU ", last->cpu,
          ": the CPUs' TSCs are not synchronised; look for \"TSC\" in the kernel log, update the "
          "firmware, or do not use this host");
    }
    last = Reading{cpu, *tsc_ticks};
  }
  return "";
}

std::string MonotonicAcrossCpus(std::chrono::milliseconds budget) {
  using Steady = std::chrono::steady_clock;
  const Steady::time_point end = Steady::now() + budget;
  std::string problem;
  // A thread of its own: the caller's CPU affinity stays what it was.
  std::thread([&] {
    problem = FindTscGoingBack(AllowedCpus(), CpuTscReader, [&] { return Steady::now() >= end; });
  }).join();
  return problem;
}

}  // namespace tsc_handoff::host
