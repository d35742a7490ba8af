#include "tests/clock_sim/sim_monitor.h"

#include "server/clock/reference.h"
#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {

void SimMonitor::Start() {
  const clock::ClockInstant asked = clock::ReadInstant(clocks_);
  Take(source_.Ask(asked.monotonic_ns), asked);
}

int64_t SimMonitor::LatePs() {
  return random_.Percent(options_.late_percent)
             ? random_.OctaveBetween(kPsPerUs, options_.latest_ps)
             : random_.Between(0, 50 * kPsPerUs);
}

void SimMonitor::PollAt(int64_t when_ps) {
  world_.At(when_ps, [this, plan = ++planned_] {
    if (plan == planned_) Ask();
  });
}

void SimMonitor::NoteStep() {
  if (polling_) {
    again_ = true;
  } else if (polls_ > 0) {
    PollAt(world_.now_ps() + LatePs());
  }
}

void SimMonitor::Ask() {
  polling_ = true;
  const clock::ClockInstant asked = clock::ReadInstant(clocks_);
  world_.After(random_.OctaveBetween(kPsPerUs, options_.longest_answer_ps),
               [this, asked] { Answer(asked); });
}

void SimMonitor::Answer(const clock::ClockInstant& asked) {
  const clock::SourceReport report = source_.Ask(asked.monotonic_ns);
  world_.After(random_.OctaveBetween(kPsPerUs, options_.longest_answer_ps),
               [this, asked, report] { Take(report, asked); });
}

void SimMonitor::Take(const clock::SourceReport& report, const clock::ClockInstant& asked) {
  const bool trusted = snapshot_.quality.trusted;
  tracker_.Take(report, asked, clock::ReadInstant(clocks_));
  snapshot_ = tracker_.snapshot();
  ++polls_;
  if (trusted && !snapshot_.quality.trusted) ++distrusts_;
  polling_ = false;
  PollAt(world_.now_ps() + (again_ ? 0 : options_.poll_interval_ps) + LatePs());
  again_ = false;
}

}  // namespace tsc_handoff::clock_sim
