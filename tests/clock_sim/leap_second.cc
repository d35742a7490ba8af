#include "tests/clock_sim/leap_second.h"

#include <algorithm>

#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

constexpr int64_t kTickPs = 4 * kPsPerMs;
// No simulated clock is further ahead while there is a leap second.
constexpr int64_t kAheadPs = 3 * kPsPerSecond;

}  // namespace

void LeapSecond::Start() {
  if (options_.inserted == 0) return;
  world_.At(std::max<int64_t>(options_.at_ps - kAheadPs, 0), [this] { Tick(); });
}

void LeapSecond::Tick() {
  if (world_.now_ps() + clocks_.ErrorPs() < options_.at_ps) {
    world_.After(kTickPs, [this] { Tick(); });
    return;
  }
  done_ps_ = world_.now_ps();
  clocks_.GoThroughLeapSecond(-options_.inserted);
  // The kernel counts on even from 0, which meant that it does not know.
  tai_s_ += options_.inserted;
  stepped_();
}

int LeapSecond::State() const {
  if (options_.inserted == 0) return TIME_OK;
  const int64_t now_ps = world_.now_ps();
  if (done_ps_ < 0) return options_.inserted > 0 ? TIME_INS : TIME_DEL;
  if (options_.inserted > 0 && now_ps < done_ps_ + kPsPerSecond) return TIME_OOP;
  return now_ps < done_ps_ + options_.cleared_after_ps ? TIME_WAIT : TIME_OK;
}

int LeapSecond::FillTimex(timex& values) const {
  const int state = State();
  values.tai = tai_s_;
  if (state != TIME_OK) values.status |= options_.inserted > 0 ? STA_INS : STA_DEL;
  return state;
}

}  // namespace tsc_handoff::clock_sim
