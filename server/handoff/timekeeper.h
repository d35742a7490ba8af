// Timekeeper: everything about time in a handoff. Takes references, has the source's clock probed,
// reckons the elapsed time, and waits until it is certain that any has passed.
//
// Threading: thread-safe, as its parts are.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_TIMEKEEPER_H_
#define TSC_HANDOFF_SERVER_HANDOFF_TIMEKEEPER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/clock/clock_quality.h"
#include "server/clock/host_clock.h"
#include "server/handoff/limits.h"
#include "server/handoff/peer_prober.h"
#include "server/host/host_facts.h"
#include "server/time/elapsed.h"
#include "server/time/tsc_scaling.h"
#include "server/time/tsc_state.h"

namespace tsc_handoff::handoff {

// An elapsed time that is certain to be 0 or more, and the reference to which it was reckoned.
struct Reckoning {
  time::TimeReference reference;
  time::Elapsed elapsed;
  int64_t commit_wait_ns = 0;
  std::optional<time::ClockProbe> probe;
};

// The host's clock now, and CLOCK_REALTIME then.
struct ClockNow {
  clock::ClockQuality quality;
  int64_t realtime_ns = 0;
};

struct Comparison {
  time::ClockProbe probe;
  ClockNow local;
  ClockNow peer;
};

// See CompareClocksResponse.Verdict in tsc_agent.proto; the numbers are the same.
enum class ClockVerdict { kAgree = 1, kDisagree = 2, kNoClaim = 3 };

// Whether what was measured can be true together with what both hosts claim. Pure.
ClockVerdict Judge(const Comparison& comparison);

class Timekeeper {
 public:
  // Told of each probe that succeeded, before it is judged; any thread.
  using ProbeObserver = std::function<void(const std::string& peer, const time::ClockProbe&)>;

  // All references outlive this.
  Timekeeper(const host::HostFacts& host, clock::HostClock& host_clock, clock::ClockView& clock,
             PeerProber& prober, const Limits& limits, ProbeObserver on_probe = {})
      : host_(host),
        host_clock_(host_clock),
        clock_(clock),
        prober_(prober),
        limits_(limits),
        on_probe_(std::move(on_probe)) {}

  // Holds for what begins afterwards.
  void set_limits(const Limits& limits) { limits_.Set(limits); }

  // What is known of the host's clock at this moment.
  ClockNow Now();

  // A reference at this moment. Errors: kHostTscUnstable.
  absl::StatusOr<time::TimeReference> TakeReference();

  // Readings for a peer's probe: called when its request has arrived, and before the answer leaves.
  // Errors: kHostTscUnstable.
  absl::StatusOr<time::ClockStamp> TakeStamp();

  // Reckons the time since `state` was captured, for the destination's `scaling`. Probes
  // `source_agent` first, unless that is empty, the mode is EXACT, or the state is this host's own.
  // Takes its reference last, and makes no system call after it. `time_left_ns` is what the
  // caller's deadline leaves. Errors: those of time::ReckonElapsed; kPeerUnreachable;
  // kRequestInvalid (source_agent); kTimeWouldGoBack when the wait would exceed max_commit_wait_ns
  // or time_left_ns.
  absl::StatusOr<Reckoning> Reckon(const time::TscState& state, const time::TscScaling& scaling,
                                   const time::ApplyPolicy& policy, const std::string& source_agent,
                                   int64_t time_left_ns);

  // Probes another agent and puts both hosts' claims beside what was measured.
  absl::StatusOr<Comparison> Compare(const std::string& peer);

 private:
  absl::StatusOr<PeerAnswers> Ask(const std::string& peer, int64_t budget_ns);
  absl::StatusOr<time::ClockProbe> Combine(const std::string& peer, const PeerAnswers& answers);
  absl::StatusOr<std::optional<time::ClockProbe>> ProbeSource(const time::TscState& state,
                                                              const std::string& source_agent,
                                                              int64_t time_left_ns);

  const host::HostFacts& host_;
  clock::HostClock& host_clock_;
  clock::ClockView& clock_;
  PeerProber& prober_;
  LiveLimits limits_;
  const ProbeObserver on_probe_;
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_TIMEKEEPER_H_
