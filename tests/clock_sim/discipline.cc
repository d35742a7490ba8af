#include "tests/clock_sim/discipline.h"

#include <algorithm>
#include <cstdlib>

#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

// What the simulation itself rounds.
constexpr int64_t kRoundingNs = 1;

int64_t CeilNs(int64_t ps) { return (ps + kPsPerNs - 1) / kPsPerNs + kRoundingNs; }

}  // namespace

void Discipline::Start() {
  SetRate();
  if (options_.smear_ps != 0) {
    world_.At(options_.smear_from_ps, [this] { SetRate(); });
    world_.At(options_.smear_until_ps, [this] { SetRate(); });
  }
  if (options_.first_update_ps == 0) {
    BeginAtWork();
  } else {
    world_.At(options_.first_update_ps, [this] { Schedule(); });
  }
}

// It has been at it for long: either a slew has just begun, or the latest update was some time ago.
void Discipline::BeginAtWork() {
  Update(/*by_step=*/random_.Percent(50));
  update_distance_ns_ = options_.interval_ps / kPsPerNs;
  const int64_t ago_ps = to_slew_ps_ != 0 ? 0 : random_.Between(0, options_.interval_ps);
  updated_ps_ -= ago_ps;
  updated_realtime_ns_ -= ago_ps / kPsPerNs;
  updated_monotonic_ns_ -= ago_ps / kPsPerNs;
  world_.After(options_.interval_ps - ago_ps, [this] { Schedule(); });
}

void Discipline::Schedule() {
  if (!lost()) Update(/*by_step=*/updates_ == 0);
  const int64_t jitter_ps = options_.interval_ps / 5;
  world_.After(options_.interval_ps + random_.Between(-jitter_ps, jitter_ps),
               [this] { Schedule(); });
}

bool Discipline::lost() const {
  return world_.now_ps() >= options_.lost_from_ps && world_.now_ps() < options_.lost_until_ps;
}

bool Discipline::synchronised() const { return updates_ > 0 && !(options_.says_so && lost()); }

void Discipline::Update(bool by_step) {
  const int64_t distance_ns = clocks_.realtime_ns() - updated_realtime_ns_;
  if (updates_++ > 0) update_distance_ns_ = std::max<int64_t>(distance_ns, 0);
  uncertainty_ps_ = options_.uncertainty_ps;
  if (options_.restless)
    uncertainty_ps_ = random_.OctaveBetween(uncertainty_ps_ / 8 + 1, uncertainty_ps_ * 8);
  const int64_t remainder_ps = random_.WithinOftenAt(uncertainty_ps_) + options_.lie_ps + SmearPs();
  const int64_t correction_ps = clocks_.ErrorPs() - remainder_ps;
  by_step |= options_.step_above_ps > 0 && std::abs(correction_ps) > options_.step_above_ps;
  by_step |= options_.steps_back && deceived_;
  updated_ps_ = world_.now_ps();
  deceived_ = false;
  wander_ppb_ = random_.WithinOftenAt(options_.wander_ppb);
  if (options_.hidden_wander_ppb > 0)
    wander_ppb_ = random_.EitherSign(options_.wander_ppb + options_.hidden_wander_ppb);
  if (by_step) clocks_.StepRealtime(-correction_ps);
  updated_realtime_ns_ = clocks_.realtime_ns();
  updated_monotonic_ns_ = clocks_.monotonic_ns();
  Slew(by_step ? 0 : correction_ps);
  if (by_step && correction_ps != 0) stepped_();
}

void Discipline::Slew(int64_t ps) {
  to_slew_ps_ = ps;
  slew_ppb_ = ps == 0 ? 0 : (ps > 0 ? -options_.slew_ppb : options_.slew_ppb);
  SetRate();
  if (ps == 0) return;
  const __int128 takes_ps = static_cast<__int128>(std::abs(ps)) * kPpb / options_.slew_ppb;
  constexpr int64_t kNeverPs = 1'000'000 * kPsPerSecond;
  if (takes_ps > kNeverPs) return;
  world_.After(static_cast<int64_t>(takes_ps), [this, update = updates_] {
    if (update != updates_) return;
    slew_ppb_ = 0;
    SetRate();
  });
}

int64_t Discipline::ToSlewPs() const {
  const int64_t slewed_ps = PpbOfPs(world_.now_ps() - updated_ps_, options_.slew_ppb);
  return std::max<int64_t>(std::abs(to_slew_ps_) - slewed_ps, 0);
}

int64_t Discipline::ToSlewNs() const { return ToSlewPs() / kPsPerNs; }

int64_t Discipline::ClaimNs() const {
  const int64_t wandered_ps = PpbOfPs(world_.now_ps() - updated_ps_, options_.wander_ppb);
  return CeilNs(ToSlewPs() + uncertainty_ps_ + wandered_ps);
}

int64_t Discipline::ClaimAtUpdateNs() const {
  return CeilNs(std::abs(to_slew_ps_) + uncertainty_ps_);
}

int64_t Discipline::SmearPs() const {
  const int64_t from_ps = options_.smear_from_ps;
  const int64_t until_ps = options_.smear_until_ps;
  if (world_.now_ps() < from_ps) return 0;
  if (world_.now_ps() >= until_ps) return options_.smear_ps;
  return static_cast<int64_t>(static_cast<__int128>(options_.smear_ps) *
                              (world_.now_ps() - from_ps) / (until_ps - from_ps));
}

int64_t Discipline::SmearPpb() const {
  const bool within = world_.now_ps() >= options_.smear_from_ps &&
                      world_.now_ps() < options_.smear_until_ps && updates_ > 0;
  if (!within) return 0;
  return static_cast<int64_t>(static_cast<__int128>(options_.smear_ps) * kPpb /
                              (options_.smear_until_ps - options_.smear_from_ps));
}

void Discipline::SetRate() { clocks_.SetRatePpb(wander_ppb_ + slew_ppb_ + SmearPpb()); }

}  // namespace tsc_handoff::clock_sim
