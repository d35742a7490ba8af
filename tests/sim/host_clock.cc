#include "tests/sim/host_clock.h"

#include <utility>

namespace tsc_handoff::sim {
namespace {

constexpr int64_t kPpb = 1'000'000'000;
// A host has been up for a day when its simulation begins.
constexpr int64_t kUptimeNs = 86'400 * kPpb;

int64_t Faster(int64_t ns, int64_t rate_error_ppb) {
  return static_cast<int64_t>(static_cast<__int128>(ns) * (kPpb + rate_error_ppb) / kPpb);
}

}  // namespace

HostClock::HostClock(std::shared_ptr<SimTime> time, const HostClockOptions& options)
    : time_(std::move(time)),
      options_(options),
      realtime_error_ns_(options.realtime_error_ns),
      tai_offset_s_(options.tai_offset_s) {}

uint64_t HostClock::TscAt(int64_t true_ns) const {
  // Exact to the tick over centuries: 10^18 ns x 4 x 10^6 kHz x 10^9 is below 2^127.
  __int128 ticks = static_cast<__int128>(true_ns) * options_.tsc_khz *
                   (kPpb + options_.tsc_rate_error_ppb) / (static_cast<__int128>(kPpb) * 1'000'000);
  return options_.tsc_start_ticks + static_cast<uint64_t>(ticks);
}

int64_t HostClock::RealtimeAt(int64_t true_ns) const {
  std::lock_guard lock(mutex_);
  return options_.realtime_start_ns + Faster(true_ns, options_.realtime_rate_error_ppb) +
         realtime_error_ns_;
}

int64_t HostClock::MonotonicAt(int64_t true_ns) const {
  return kUptimeNs + Faster(true_ns, options_.realtime_rate_error_ppb);
}

int64_t HostClock::KernelNsAt(uint64_t tsc_ticks) const {
  uint64_t since_boot_ticks = tsc_ticks - options_.tsc_start_ticks;
  return static_cast<int64_t>(static_cast<unsigned __int128>(since_boot_ticks) * 1'000'000 /
                              options_.tsc_khz);
}

void HostClock::BeforeRead() {
  int64_t delay_ns;
  {
    std::lock_guard lock(mutex_);
    delay_ns = each_delay_ns_;
    auto extra = delays_.find(++reads_);
    if (extra != delays_.end()) {
      delay_ns += extra->second;
      delays_.erase(extra);
    }
  }
  if (delay_ns > 0) time_->Advance(delay_ns);
}

uint64_t HostClock::ReadTsc() {
  BeforeRead();
  return PeekTsc();
}

int64_t HostClock::ReadRealtimeNs() {
  BeforeRead();
  return PeekRealtimeNs();
}

int64_t HostClock::ReadMonotonicNs() {
  BeforeRead();
  return PeekMonotonicNs();
}

int64_t HostClock::ReadTaiNs() {
  return ReadRealtimeNs() + int64_t{tai_offset_s()} * 1'000'000'000;
}

void HostClock::SetRealtimeErrorNs(int64_t error_ns) {
  std::lock_guard lock(mutex_);
  realtime_error_ns_ = error_ns;
}

void HostClock::SetTaiOffsetS(int32_t offset_s) {
  std::lock_guard lock(mutex_);
  tai_offset_s_ = offset_s;
}

int32_t HostClock::tai_offset_s() const {
  std::lock_guard lock(mutex_);
  return tai_offset_s_;
}

void HostClock::DelayEachRead(int64_t ns) {
  std::lock_guard lock(mutex_);
  each_delay_ns_ = ns;
}

void HostClock::DelayRead(uint64_t nth, int64_t ns) {
  std::lock_guard lock(mutex_);
  delays_[reads_ + nth] += ns;
}

}  // namespace tsc_handoff::sim
