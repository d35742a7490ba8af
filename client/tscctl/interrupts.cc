#include "client/tscctl/interrupts.h"

#include <algorithm>
#include <atomic>

#include "absl/time/clock.h"

namespace tsc_handoff::tscctl {
namespace {

constexpr absl::Duration kGlance = absl::Milliseconds(50);

std::atomic<int> interrupts{0};

}  // namespace

Interrupts::Interrupts() {
  interrupts = 0;
  sigaction(SIGINT, nullptr, &before_);
  if (before_.sa_handler == SIG_IGN) return;  // as whoever started this process wants it
  struct sigaction action = {};
  action.sa_handler = [](int) {
    if (++interrupts >= 2) signal(SIGINT, SIG_DFL);
  };
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
}

Interrupts::~Interrupts() { sigaction(SIGINT, &before_, nullptr); }

int Interrupts::count() { return interrupts; }

bool Interrupts::Sleep(absl::Duration duration) {
  while (duration > absl::ZeroDuration() && count() < 2) {
    absl::SleepFor(std::min(duration, kGlance));
    duration -= kGlance;
  }
  return count() < 2;
}

}  // namespace tsc_handoff::tscctl
