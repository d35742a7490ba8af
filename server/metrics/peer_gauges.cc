#include "server/metrics/peer_gauges.h"

#include <map>

namespace tsc_handoff::metrics {
namespace {

constexpr double kSecondsPerNs = 1e-9;

prometheus::Family<prometheus::Gauge>& Gauges(prometheus::Registry& registry,
                                              const std::string& name, const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

}  // namespace

PeerGauges::PeerGauges(prometheus::Registry& registry, size_t max_peers)
    : max_peers_(max_peers),
      offset_(Gauges(registry, "tsc_agent_peer_clock_offset_seconds",
                     "This host's wall clock minus the peer's, by the last probe.")),
      offset_error_(Gauges(registry, "tsc_agent_peer_clock_offset_error_seconds",
                           "Half-width of the interval that holds the offset.")),
      round_trip_(Gauges(registry, "tsc_agent_peer_round_trip_seconds",
                         "Shortest round trip of the last probe.")) {}

void PeerGauges::Set(const std::string& peer, const ProbeValues& values) {
  std::lock_guard<std::mutex> lock(mutex_);
  peers_.remove(peer);
  peers_.push_front(peer);
  const std::map<std::string, std::string> labels = {{"peer", peer}};
  offset_.Add(labels).Set(static_cast<double>(values.offset_ns) * kSecondsPerNs);
  offset_error_.Add(labels).Set(static_cast<double>(values.offset_error_ns) * kSecondsPerNs);
  round_trip_.Add(labels).Set(static_cast<double>(values.round_trip_ns) * kSecondsPerNs);
  if (peers_.size() <= max_peers_) return;
  const std::map<std::string, std::string> oldest = {{"peer", peers_.back()}};
  peers_.pop_back();
  offset_.Remove(&offset_.Add(oldest));
  offset_error_.Remove(&offset_error_.Add(oldest));
  round_trip_.Remove(&round_trip_.Add(oldest));
}

}  // namespace tsc_handoff::metrics
