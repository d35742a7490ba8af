// PeerGauges: what the last probe of each peer's clock found, for as many peers as are permitted;
// the one not probed for longest makes room.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_METRICS_PEER_GAUGES_H_
#define TSC_HANDOFF_SERVER_METRICS_PEER_GAUGES_H_

#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <cstddef>
#include <list>
#include <mutex>
#include <string>

#include "server/metrics/event_values.h"

namespace tsc_handoff::metrics {

class PeerGauges {
 public:
  // `registry` outlives this.
  PeerGauges(prometheus::Registry& registry, size_t max_peers);

  void Set(const std::string& peer, const ProbeValues& values);

 private:
  const size_t max_peers_;
  prometheus::Family<prometheus::Gauge>& offset_;
  prometheus::Family<prometheus::Gauge>& offset_error_;
  prometheus::Family<prometheus::Gauge>& round_trip_;
  std::mutex mutex_;
  std::list<std::string> peers_;  // most recently probed first; guarded by mutex_
};

}  // namespace tsc_handoff::metrics

#endif  // TSC_HANDOFF_SERVER_METRICS_PEER_GAUGES_H_
