#include "tests/clock_sim/random.h"

#include <algorithm>
#include <bit>

namespace tsc_handoff::clock_sim {
namespace {

// SplitMix64: neighbouring seeds give unrelated sequences.
uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

Random::Random(uint64_t seed) : state_(Mix(seed + 1)) {}

uint64_t Random::Bits() {
  state_ += 0x9e3779b97f4a7c15;
  return Mix(state_);
}

Random Random::Fork() { return Random(Bits()); }

uint64_t Random::Below(uint64_t limit) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(Bits()) * limit) >> 64);
}

int64_t Random::Between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
}

int64_t Random::OctaveBetween(int64_t low, int64_t high) {
  const int first = std::bit_width(static_cast<uint64_t>(low)) - 1;
  const int last = std::bit_width(static_cast<uint64_t>(high)) - 1;
  const auto octave = static_cast<int>(Between(first, last));
  const int64_t from = int64_t{1} << octave;
  return Between(std::max(low, from), std::min(high, from + (from - 1)));
}

int64_t Random::WithinOftenAt(int64_t limit) {
  return Percent(50) ? EitherSign(limit) : Between(-limit, limit);
}

int64_t Random::EitherSign(int64_t magnitude) { return Percent(50) ? magnitude : -magnitude; }

bool Random::Percent(int percent) { return Below(100) < static_cast<uint64_t>(percent); }

bool Random::PerMille(int per_mille) { return Below(1000) < static_cast<uint64_t>(per_mille); }

}  // namespace tsc_handoff::clock_sim
