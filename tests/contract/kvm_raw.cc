#include "tests/contract/kvm_raw.h"

#include <string.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::contract {
namespace {

constexpr int kReadings = 8;

// A kvm_msrs with one entry; nothing may follow its flexible array.
struct OneMsr {
  uint32_t nmsrs = 1;
  uint32_t pad = 0;
  kvm_msr_entry entry = {};
};

absl::Status Failed(const std::string& what, int result) {
  return absl::InternalError(absl::StrCat(what, " answered ", result, result < 0 ? ": " : "",
                                          result < 0 ? strerror(-result) : ""));
}

}  // namespace

absl::StatusOr<uint64_t> ReadOffset(const tsc_kvm_ops* ops, int vcpu_fd) {
  uint64_t offset_ticks = 0;
  kvm_device_attr attr = {0, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
                          reinterpret_cast<uintptr_t>(&offset_ticks)};
  int result = ops->ioctl(ops->ctx, vcpu_fd, KVM_GET_DEVICE_ATTR, &attr);
  if (result != 0) return Failed("KVM_GET_DEVICE_ATTR of the TSC offset", result);
  return offset_ticks;
}

absl::Status WriteOffset(const tsc_kvm_ops* ops, int vcpu_fd, uint64_t offset_ticks) {
  kvm_device_attr attr = {0, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
                          reinterpret_cast<uintptr_t>(&offset_ticks)};
  int result = ops->ioctl(ops->ctx, vcpu_fd, KVM_SET_DEVICE_ATTR, &attr);
  return result == 0 ? absl::OkStatus() : Failed("KVM_SET_DEVICE_ATTR of the TSC offset", result);
}

absl::StatusOr<uint64_t> ReadMsr(const tsc_kvm_ops* ops, int vcpu_fd, uint32_t index) {
  OneMsr msr;
  msr.entry.index = index;
  int result = ops->ioctl(ops->ctx, vcpu_fd, KVM_GET_MSRS, &msr);
  if (result != 1) return Failed(absl::StrCat("KVM_GET_MSRS of ", absl::Hex(index)), result);
  return msr.entry.data;
}

absl::Status WriteMsr(const tsc_kvm_ops* ops, int vcpu_fd, uint32_t index, uint64_t value) {
  OneMsr msr;
  msr.entry.index = index;
  msr.entry.data = value;
  int result = ops->ioctl(ops->ctx, vcpu_fd, KVM_SET_MSRS, &msr);
  return result == 1 ? absl::OkStatus()
                     : Failed(absl::StrCat("KVM_SET_MSRS of ", absl::Hex(index)), result);
}

absl::StatusOr<uint32_t> ReadKhz(const tsc_kvm_ops* ops, int vcpu_fd) {
  int result = ops->ioctl(ops->ctx, vcpu_fd, KVM_GET_TSC_KHZ, nullptr);
  if (result <= 0) return Failed("KVM_GET_TSC_KHZ", result);
  return static_cast<uint32_t>(result);
}

absl::StatusOr<ClockReading> ReadKvmclock(const tsc_kvm_ops* ops, int vm_fd) {
  ClockReading best;
  for (int i = 0; i < kReadings; ++i) {
    kvm_clock_data data = {};
    uint64_t before = ops->rdtsc(ops->ctx);
    int result = ops->ioctl(ops->ctx, vm_fd, KVM_GET_CLOCK, &data);
    uint64_t after = ops->rdtsc(ops->ctx);
    if (result != 0) return Failed("KVM_GET_CLOCK", result);
    uint64_t half_width = (after - before + 1) / 2;
    if (i == 0 || half_width < best.half_width_ticks)
      best = {data.clock, before + half_width, half_width, data.flags};
  }
  return best;
}

int64_t TicksToNs(int64_t ticks, uint32_t khz) {
  return static_cast<int64_t>(static_cast<__int128>(ticks) * 1'000'000 / khz);
}

uint64_t ScaleTicks(uint64_t host_ticks, uint64_t ratio, int frac_bits) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(host_ticks) * ratio) >> frac_bits);
}

absl::StatusOr<VmSnapshot> TakeSnapshot(const tsc_kvm_ops* ops, const tsc_kvm_vm& vm) {
  VmSnapshot out;
  for (uint32_t i = 0; i < vm.vcpu_count; ++i) {
    int fd = vm.vcpus[i].fd;
    absl::StatusOr<uint64_t> offset = ReadOffset(ops, fd);
    absl::StatusOr<uint64_t> adjust = ReadMsr(ops, fd, kMsrTscAdjust);
    absl::StatusOr<uint64_t> deadline = ReadMsr(ops, fd, kMsrTscDeadline);
    absl::StatusOr<uint32_t> khz = ReadKhz(ops, fd);
    for (const absl::Status& status :
         {offset.status(), adjust.status(), deadline.status(), khz.status()}) {
      if (!status.ok()) return status;
    }
    out.vcpus.push_back({vm.vcpus[i].id, *khz, *offset, *adjust, *deadline, 0});
  }
  absl::StatusOr<ClockReading> kvmclock = ReadKvmclock(ops, vm.vm_fd);
  if (!kvmclock.ok()) return kvmclock.status();
  out.kvmclock = *kvmclock;
  return out;
}

int64_t KvmclockMovedNs(const ClockReading& before, const ClockReading& after, uint32_t host_khz) {
  int64_t passed_ns = TicksToNs(static_cast<int64_t>(after.tsc_ticks - before.tsc_ticks), host_khz);
  int64_t moved_ns = static_cast<int64_t>(after.kvmclock_ns - before.kvmclock_ns) - passed_ns;
  int64_t open_ns =
      TicksToNs(static_cast<int64_t>(before.half_width_ticks + after.half_width_ticks), host_khz) +
      2;
  if (std::abs(moved_ns) <= open_ns) return 0;
  return moved_ns > 0 ? moved_ns - open_ns : moved_ns + open_ns;
}

}  // namespace tsc_handoff::contract
