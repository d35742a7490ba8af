#include "tests/bench/samples.h"

#include <algorithm>
#include <numeric>

namespace tsc_handoff::bench {

int64_t Samples::PercentileNs(int percent) const {
  if (values_ns_.empty()) return 0;
  std::vector<int64_t> sorted = values_ns_;
  const size_t rank = (sorted.size() * static_cast<size_t>(percent) + 99) / 100;
  const auto nth = sorted.begin() + static_cast<ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(sorted.begin(), nth, sorted.end());
  return *nth;
}

nlohmann::ordered_json Samples::ToJson() const {
  const auto count = static_cast<int64_t>(values_ns_.size());
  const int64_t sum = std::accumulate(values_ns_.begin(), values_ns_.end(), int64_t{0});
  return {{"count", count},
          {"min_ns", PercentileNs(0)},
          {"p50_ns", PercentileNs(50)},
          {"p90_ns", PercentileNs(90)},
          {"p99_ns", PercentileNs(99)},
          {"max_ns", PercentileNs(100)},
          {"mean_ns", count == 0 ? 0 : sum / count}};
}

Samples Sum(const Samples& a, const Samples& b) {
  Samples sum;
  for (size_t i = 0; i < a.values_ns().size(); ++i) sum.Add(a.values_ns()[i] + b.values_ns()[i]);
  return sum;
}

}  // namespace tsc_handoff::bench
