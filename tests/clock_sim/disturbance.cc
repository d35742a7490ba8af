#include "tests/clock_sim/disturbance.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/clock_sim/units.h"

namespace tsc_handoff::clock_sim {
namespace {

using Phase = Disturbance::Phase;

// About as many readings as a capture and a probed reckoning take.
constexpr int64_t kCaptureReadings = 100;
constexpr int64_t kReckoningReadings = 450;

void DrawPlace(const DisturbanceLimits& limits, Random& random, Disturbance& drawn) {
  drawn.phase = random.Pick({Phase::kBeforeCapture, Phase::kCapture, Phase::kBlackout,
                             Phase::kReckoning, Phase::kReckoning});
  drawn.of_source = random.Percent(50);
  switch (drawn.phase) {
    case Phase::kBeforeCapture:
      drawn.after_ps = random.Percent(50)
                           ? random.Between(0, limits.before_ps)
                           : limits.before_ps - random.OctaveBetween(kPsPerUs, limits.before_ps);
      break;
    case Phase::kCapture:
      drawn.of_source = true;
      drawn.reading = static_cast<uint64_t>(random.Between(1, kCaptureReadings));
      break;
    case Phase::kBlackout:
      drawn.after_ps = random.Between(0, limits.blackout_ps);
      break;
    case Phase::kReckoning:
      drawn.reading = static_cast<uint64_t>(random.Between(1, kReckoningReadings));
      break;
  }
}

int64_t DrawStepPs(int64_t longest_ps, Random& random) {
  const int64_t few_ps = std::min(longest_ps, kPsPerSecond);
  return random.EitherSign(
      random.OctaveBetween(kPsPerNs, random.Percent(80) ? few_ps : longest_ps));
}

Disturbance DrawOne(const DisturbanceLimits& limits, Random& random) {
  Disturbance drawn;
  DrawPlace(limits, random, drawn);
  const int64_t kind = random.Between(0, 99);
  if (kind < 55) {
    drawn.step_ps = DrawStepPs(limits.longest_step_ps, random);
  } else if (kind < 70) {
    drawn.by_discipline = true;
  } else if (kind < 90) {
    drawn.stall_ps = random.OctaveBetween(10 * kPsPerNs, 4 * kPsPerSecond);
  } else {
    drawn.stall_ps = random.OctaveBetween(100 * kPsPerNs, 100 * kPsPerMs);
    drawn.step_ps = random.EitherSign(drawn.stall_ps);
  }
  if (drawn.step_ps != 0 && random.Percent(15))
    drawn.undone_after_ps = random.OctaveBetween(100 * kPsPerNs, 300 * kPsPerMs);
  return drawn;
}

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kBeforeCapture:
      return "before";
    case Phase::kCapture:
      return "capture";
    case Phase::kBlackout:
      return "blackout";
    case Phase::kReckoning:
      return "reckoning";
  }
  return "";
}

}  // namespace

std::vector<Disturbance> DrawDisturbances(const DisturbanceLimits& limits, Random& random) {
  const int64_t count = random.Pick({0, 0, 1, 1, 1, 2, 3});
  std::vector<Disturbance> drawn;
  for (int64_t i = 0; i < count; ++i) drawn.push_back(DrawOne(limits, random));
  return drawn;
}

std::string Describe(const Disturbance& disturbance) {
  return absl::StrCat(
      "{", PhaseName(disturbance.phase), disturbance.of_source ? " source" : " destination",
      disturbance.reading > 0 ? absl::StrCat(" reading=", disturbance.reading)
                              : absl::StrCat(" after_ps=", disturbance.after_ps),
      disturbance.by_discipline ? " update_by_step" : "", " stall_ps=", disturbance.stall_ps,
      " step_ps=", disturbance.step_ps, " undone_after_ps=", disturbance.undone_after_ps, "}");
}

}  // namespace tsc_handoff::clock_sim
