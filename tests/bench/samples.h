// Samples: durations of one kind, and their percentiles.
//
// Threading: a plain value.
#ifndef TSC_HANDOFF_TESTS_BENCH_SAMPLES_H_
#define TSC_HANDOFF_TESTS_BENCH_SAMPLES_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace tsc_handoff::bench {

class Samples {
 public:
  void Add(int64_t ns) { values_ns_.push_back(ns); }
  const std::vector<int64_t>& values_ns() const { return values_ns_; }

  // The smallest sample that at least `percent` of all samples do not exceed (nearest rank), so it
  // is one that happened; with less than 100 samples p99 is the largest. 0 when there are none.
  int64_t PercentileNs(int percent) const;

  // {"count", "min_ns", "p50_ns", "p90_ns", "p99_ns", "max_ns", "mean_ns"}
  nlohmann::ordered_json ToJson() const;

 private:
  std::vector<int64_t> values_ns_;
};

// Round by round: what both took together. REQUIRES: equally many samples.
Samples Sum(const Samples& a, const Samples& b);

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_SAMPLES_H_
