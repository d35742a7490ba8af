// Random TSC states for tests, the same ones for the same seed.
#ifndef TSC_HANDOFF_SERVER_STATE_RANDOM_STATE_H_
#define TSC_HANDOFF_SERVER_STATE_RANDOM_STATE_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "server/time/tsc_state.h"

namespace tsc_handoff::state {

// Draws states from every region that the format codes differently.
class RandomState {
 public:
  explicit RandomState(uint64_t seed) : random_(seed) {}

  time::TscState Next() {
    time::TscState state;
    state.vm_id = VmId();
    state.guest_khz = static_cast<uint32_t>(std::max<uint64_t>(1, Extreme() >> Below(64)));
    if (state.guest_khz == 0) state.guest_khz = 1;
    if (Below(8) != 0) state.reference = Reference();
    if (Below(4) != 0) {
      state.kvmclock = time::KvmClockValue{.kvmclock_ns = Extreme(),
                                           .read_error_ns = static_cast<int64_t>(Extreme() >> 1),
                                           .master_clock = Below(2) == 0};
    }
    if (Below(3) != 0) state.boot_id = Bytes(16);
    if (Below(3) == 0) state.handoff = Ticket();
    AddIds(state.vcpus);
    Fill(state.vcpus, &time::VcpuTsc::guest_tsc_ticks);
    Fill(state.vcpus, &time::VcpuTsc::tsc_adjust_ticks);
    Fill(state.vcpus, &time::VcpuTsc::tsc_deadline_ticks);
    return state;
  }

 private:
  uint64_t Below(uint64_t limit) { return random_() % limit; }

  uint64_t Extreme() {
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    constexpr uint64_t kAllBits = std::numeric_limits<uint64_t>::max();
    constexpr uint64_t kExtremes[] = {0, 1, kMax, kMax + 1, kAllBits, kAllBits - 1};
    return Below(3) == 0 ? kExtremes[Below(6)] : random_();
  }

  std::string Bytes(size_t count) {
    std::string bytes;
    for (size_t i = 0; i < count; ++i) bytes.push_back(static_cast<char>(Below(256)));
    return bytes;
  }

  time::HandoffTicket Ticket() {
    return {.handoff_id = VmId(),
            .epoch = std::max<uint64_t>(1, Extreme() >> 1),
            .source_agent_id = Bytes(16),
            .destination_agent_id = Bytes(16),
            .destination_vm_id = VmId(),
            .release_digest = Bytes(32),
            .abort_digest = Bytes(32)};
  }

  std::string VmId() {
    constexpr char kAllowed[] = "ABCXYZabcxyz0189._:-";
    std::string id;
    const uint64_t length = Below(4) == 0 ? 128 : 1 + Below(128);
    for (uint64_t i = 0; i < length; ++i) id.push_back(kAllowed[Below(sizeof(kAllowed) - 1)]);
    return id;
  }

  time::TimeReference Reference() {
    time::TimeReference reference;
    reference.host_tsc_ticks = Extreme();
    reference.realtime_ns = static_cast<int64_t>(std::max<uint64_t>(1, Extreme() >> 1));
    reference.tai_offset_s = static_cast<int32_t>(Below(1001));
    reference.read_error_ns = static_cast<int64_t>(Extreme() >> 1);
    reference.clock_error_ns = static_cast<int64_t>(Extreme() >> 1);
    reference.clock_trusted = Below(2) == 0;
    reference.leap_second = Below(2) == 0;
    reference.host_tsc_khz = static_cast<uint32_t>(1 + Below(0xffffffff));
    reference.method =
        Below(2) == 0 ? time::ReferenceMethod::kBracketed : time::ReferenceMethod::kKvmGetClock;
    return reference;
  }

  void AddIds(std::vector<time::VcpuTsc>& vcpus) {
    const uint64_t count = Below(8) == 0 ? 1024 : 1 + Below(Below(2) == 0 ? 8 : 1024);
    const bool dense = Below(2) == 0;
    // Sparse ids must leave room below 4096 for those that follow.
    uint64_t id = 0;
    for (uint64_t left = count; left > 0; --left) {
      if (!dense) id += Below(2) == 0 ? 0 : Below((4096 - id - left) / left + 1);
      vcpus.push_back({.id = static_cast<uint32_t>(id)});
      ++id;
    }
    if (!dense && Below(2) == 0) vcpus.back().id = 4095;
  }

  void Fill(std::vector<time::VcpuTsc>& vcpus, uint64_t time::VcpuTsc::*value) {
    const uint64_t kind = Below(4);
    const uint64_t all = Extreme();
    if (kind == 0) return;
    for (time::VcpuTsc& vcpu : vcpus) vcpu.*value = kind == 1 ? all : Extreme();
    if (kind == 3) vcpus.back().*value = 0;
  }

  std::mt19937_64 random_;
};

}  // namespace tsc_handoff::state

#endif  // TSC_HANDOFF_SERVER_STATE_RANDOM_STATE_H_
