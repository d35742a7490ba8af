#include "server/agent/flood_watch.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::agent {
namespace {

// gRPC frees what belonged to a connection by and by.
constexpr std::chrono::seconds kAfterwards{1};
constexpr int kTimesAfterAFlood = 8;

}  // namespace

FloodWatch::FloodWatch(uint32_t max_streams,
                       std::function<void(const std::string&, const std::string&)> close)
    : max_streams_(max_streams),
      close_(std::move(close)),
      memory_(open("/proc/self/statm", O_RDONLY | O_CLOEXEC)),
      thread_([this] { Run(); }) {}

FloodWatch::~FloodWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FloodWatch::Run() {
  using Clock = std::chrono::steady_clock;
  int64_t least = ResidentBytes().value_or(0);
  constexpr Clock::time_point kNever = Clock::time_point::max();
  Clock::time_point give_back_at = kNever;
  int times_left = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, kEvery, [this] { return stopping_; })) {
    lock.unlock();
    const int64_t now = ResidentBytes().value_or(0);
    least = std::min(least, now);
    if (now - least > kGrowthBytes) {
      times_left = CloseFloods() ? kTimesAfterAFlood : std::max(times_left, 1);
      if (give_back_at == kNever) give_back_at = Clock::now() + kAfterwards;
    }
    if (Clock::now() >= give_back_at) {
      malloc_trim(0);
      least = ResidentBytes().value_or(0);  // the rest is needed
      give_back_at = --times_left > 0 ? Clock::now() + kAfterwards : kNever;
    }
    lock.lock();
  }
}

bool FloodWatch::CloseFloods() {
  bool found = false;
  for (const ConnectionLoads::Change& each : loads_.Look()) {
    if (!IsFlood(each.before, each.now, max_streams_)) continue;
    found = true;
    close_(each.now.peer, absl::StrCat("it floods the agent: ", each.now.begun, " calls, of which ",
                                       each.now.open(), " are open (--max-streams ", max_streams_,
                                       ") and ", each.now.failed, " were taken back"));
  }
  return found;
}

std::optional<int64_t> FloodWatch::ResidentBytes() const {
  char text[128] = {};
  if (pread(memory_.get(), text, sizeof(text) - 1, 0) <= 0) return std::nullopt;
  char* second = nullptr;
  (void)std::strtoll(text, &second, 10);  // the size of all that is mapped
  return std::strtoll(second, nullptr, 10) * sysconf(_SC_PAGESIZE);
}

}  // namespace tsc_handoff::agent
