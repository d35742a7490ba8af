// LiveCollectable: the families that show what is true at the moment of the scrape rather than what
// happened.
//
// Threading: Collect may be called from any thread, as often as `live` may.
#ifndef TSC_HANDOFF_SERVER_METRICS_LIVE_COLLECTABLE_H_
#define TSC_HANDOFF_SERVER_METRICS_LIVE_COLLECTABLE_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <functional>
#include <utility>
#include <vector>

#include "server/metrics/live_values.h"

namespace tsc_handoff::metrics {

class LiveCollectable final : public prometheus::Collectable {
 public:
  explicit LiveCollectable(std::function<LiveValues()> live) : live_(std::move(live)) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::function<LiveValues()> live_;
};

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_LIVE_COLLECTABLE_H_
