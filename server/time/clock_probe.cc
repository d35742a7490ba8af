#include "server/time/clock_probe.h"

#include <algorithm>
#include <limits>

#include "server/base/error.h"
#include "server/time/ticks.h"

namespace tsc_handoff::time {
namespace {

using int128 = __int128;  // a peer may answer with any values

// Ticks are turned into whole ns on both sides.
constexpr int64_t kRoundingNs = 2;

struct Interval {
  int128 lower_ns = std::numeric_limits<int64_t>::min();
  int128 upper_ns = std::numeric_limits<int64_t>::max();

  void Intersect(int128 lower, int128 upper) {
    lower_ns = std::max(lower_ns, lower);
    upper_ns = std::min(upper_ns, upper);
  }
  bool empty() const { return lower_ns > upper_ns; }
  int128 width_ns() const { return upper_ns - lower_ns; }
};

// Times are counted from the end of the last round, where all that was measured shall hold.
class Combination {
 public:
  Combination(const ProbeRound& last, uint32_t local_khz, uint32_t peer_khz, uint32_t rate_ppm)
      : origin_(last), local_khz_(local_khz), peer_khz_(peer_khz), rate_ppm_(rate_ppm) {}

  // Leaves out a round that makes no sense by itself.
  void Add(const ProbeRound& round) {
    const int128 sent_ns = LocalNs(round.sent);
    const int128 received_ns = LocalNs(round.received);
    const int128 peer_received_ns = PeerNs(round.peer_received);
    const int128 peer_sent_ns = PeerNs(round.peer_sent);
    if (received_ns < sent_ns || peer_sent_ns < peer_received_ns) return;
    const int128 round_trip_ns = (received_ns - sent_ns) - (peer_sent_ns - peer_received_ns);
    round_trip_ns_ = std::min(round_trip_ns_, std::max<int128>(round_trip_ns, 0));
    first_ns_ = std::min(first_ns_, sent_ns);
    // The peer received after this host had sent, and sent before this host received.
    tsc_.Intersect(peer_sent_ns - received_ns - SlackNs(received_ns),
                   peer_received_ns - sent_ns + SlackNs(sent_ns));
    // Not intersected: a clock that is being slewed is not the same in all rounds.
    const Interval wall = {Difference(round.sent, round.peer_received, -1),
                           Difference(round.received, round.peer_sent, +1)};
    if (!wall.empty() && wall.width_ns() < wall_.width_ns()) wall_ = wall;
    ++rounds_;
  }

  absl::StatusOr<ClockProbe> Result() const {
    if (rounds_ == 0) {
      return Error(Reason::kPeerUnreachable, "the peer's readings of its TSC go backwards");
    }
    if (tsc_.empty()) {
      return Error(Reason::kClocksDisagree,
                   "a TSC jumped while the two hosts' clocks were compared");
    }
    ClockProbe probe;
    probe.local_tsc_ticks = origin_.received.host_tsc_ticks;
    probe.peer_tsc_ticks = origin_.peer_sent.host_tsc_ticks;
    probe.local_khz = local_khz_;
    probe.peer_khz = peer_khz_;
    probe.lower_ns = Saturate(tsc_.lower_ns);
    probe.upper_ns = Saturate(tsc_.upper_ns);
    probe.wall_offset_ns = Saturate(wall_.lower_ns + wall_.width_ns() / 2);
    probe.wall_offset_error_ns = Saturate(wall_.width_ns() / 2 + 1);
    probe.round_trip_ns = Saturate(round_trip_ns_);
    probe.rounds = rounds_;
    probe.duration_ns = Saturate(-first_ns_);
    return probe;
  }

 private:
  int128 LocalNs(const ClockStamp& stamp) const {
    return TicksToNs(static_cast<int64_t>(stamp.host_tsc_ticks - origin_.received.host_tsc_ticks),
                     local_khz_);
  }
  int128 PeerNs(const ClockStamp& stamp) const {
    return TicksToNs(static_cast<int64_t>(stamp.host_tsc_ticks - origin_.peer_sent.host_tsc_ticks),
                     peer_khz_);
  }
  // What the two hosts' rates can have done in the time to the origin.
  int128 SlackNs(int128 ns) const {
    return ((ns < 0 ? -ns : ns) * rate_ppm_ * 2 + 999'999) / 1'000'000 + kRoundingNs;
  }
  // Local minus peer wall clock, at the end of its uncertainty that `sign` names.
  static int128 Difference(const ClockStamp& local, const ClockStamp& peer, int sign) {
    return int128{local.realtime_ns} - peer.realtime_ns +
           sign * (int128{local.read_error_ns} + peer.read_error_ns);
  }

  const ProbeRound& origin_;
  const uint32_t local_khz_;
  const uint32_t peer_khz_;
  const uint32_t rate_ppm_;
  Interval tsc_;
  Interval wall_;
  int128 round_trip_ns_ = std::numeric_limits<int64_t>::max();
  int128 first_ns_ = 0;
  uint32_t rounds_ = 0;
};

}  // namespace

absl::StatusOr<ClockProbe> CombineRounds(const std::vector<ProbeRound>& rounds, uint32_t local_khz,
                                         uint32_t peer_khz, uint32_t rate_ppm) {
  if (rounds.empty()) return Error(Reason::kPeerUnreachable, "the peer answered no probe");
  Combination combination(rounds.back(), local_khz, peer_khz, rate_ppm);
  for (const ProbeRound& round : rounds) combination.Add(round);
  return combination.Result();
}

}  // namespace tsc_handoff::time
