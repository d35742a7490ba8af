#include "tests/witness/tsc_view.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::witness {
namespace {

using nlohmann::json;

constexpr uint32_t kMsrTscAdjust = 0x3b;
constexpr uint32_t kMsrTscDeadline = 0x6e0;

// After all earlier loads and before all later instructions.
uint64_t OrderedRdtsc() {
  _mm_lfence();
  const uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
}

// The kernel's name of a VM's directory is the creator's pid and the VM's descriptor there.
json DebugfsOffset(int vm_fd, uint32_t vcpu_id) {
  std::ifstream file(absl::StrCat("/sys/kernel/debug/kvm/", getpid(), "-", vm_fd, "/vcpu", vcpu_id,
                                  "/tsc-offset"));
  int64_t offset = 0;
  if (!(file >> offset)) return nullptr;
  return static_cast<uint64_t>(offset);
}

absl::StatusOr<json> Kvmclock(int vm_fd) {
  kvm_clock_data clock = {};
  const uint64_t before = OrderedRdtsc();
  if (ioctl(vm_fd, KVM_GET_CLOCK, &clock) != 0) return absl::ErrnoToStatus(errno, "KVM_GET_CLOCK");
  const uint64_t after = OrderedRdtsc();
  return json{{"ns", clock.clock},
              {"flags", clock.flags},
              {"host_tsc_ticks", clock.host_tsc},
              {"realtime_ns", clock.realtime},
              {"tsc_before_ticks", before},
              {"tsc_after_ticks", after}};
}

}  // namespace

absl::StatusOr<json> ViewTscs(const Machine& machine, bool running) {
  json vcpus = json::array();
  for (const Vcpu& vcpu : machine.vcpus()) {
    json entry = {{"id", vcpu.id},
                  {"tsc_offset_ticks", nullptr},
                  {"tsc_adjust_ticks", nullptr},
                  {"tsc_deadline_ticks", nullptr},
                  {"tsc_khz", nullptr},
                  {"debugfs_offset_ticks", DebugfsOffset(machine.vm_fd(), vcpu.id)}};
    if (!running) {
      absl::StatusOr<uint64_t> offset = GetTscOffset(vcpu);
      if (!offset.ok()) return offset.status();
      absl::StatusOr<uint64_t> adjust = GetMsr(vcpu, kMsrTscAdjust);
      if (!adjust.ok()) return adjust.status();
      entry["tsc_offset_ticks"] = *offset;
      entry["tsc_adjust_ticks"] = *adjust;
      if (absl::StatusOr<uint64_t> deadline = GetMsr(vcpu, kMsrTscDeadline); deadline.ok()) {
        entry["tsc_deadline_ticks"] = *deadline;
      }
      if (const int khz = ioctl(vcpu.fd, KVM_GET_TSC_KHZ, 0); khz > 0) entry["tsc_khz"] = khz;
    }
    vcpus.push_back(std::move(entry));
  }
  absl::StatusOr<json> clock = Kvmclock(machine.vm_fd());
  if (!clock.ok()) return clock.status();
  return json{{"running", running}, {"vcpus", std::move(vcpus)}, {"kvmclock", *std::move(clock)}};
}

}  // namespace tsc_handoff::witness
