#include "tests/contract/real_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/contract/kvm_raw.h"
#include "tests/contract/real_guest.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::contract {
namespace {

constexpr char kDebugfs[] = "/sys/kernel/debug/kvm";
constexpr uint32_t kManyVcpus = 64;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

// A decimal number, signed or not; nullopt where the file is missing.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::string text = ReadFile(path);
  if (text.empty()) return std::nullopt;
  return text[0] == '-' ? static_cast<uint64_t>(strtoll(text.c_str(), nullptr, 10))
                        : strtoull(text.c_str(), nullptr, 10);
}

class RealContractVm final : public ContractVm {
 public:
  RealContractVm(std::unique_ptr<RealGuest> guest, const HostTraits& traits)
      : guest_(std::move(guest)), traits_(traits), interposer_(tsc_kvm_linux_ops(), guest_->vm()) {}

  tsc_kvm_vm vm() const override { return guest_->vm(); }
  const tsc_kvm_ops* kernel() const override { return tsc_kvm_linux_ops(); }
  Interposer& interposer() override { return interposer_; }
  absl::StatusOr<GuestReading> RunOnce(uint32_t i) override { return guest_->RunOnce(i); }
  absl::Status Block(uint32_t i) override { return guest_->StartSpinning(i); }
  absl::Status Unblock(uint32_t i) override { return guest_->StopSpinning(i); }

  absl::StatusOr<Oracle> ReadOracle(uint32_t i) override {
    std::string vcpu =
        absl::StrCat(kDebugfs, "/", getpid(), "-", vm().vm_fd, "/vcpu", vm().vcpus[i].id, "/");
    std::optional<uint64_t> offset = ReadNumber(vcpu + "tsc-offset");
    if (!offset)
      return absl::UnavailableError(vcpu + "tsc-offset cannot be read: mount debugfs, be root");
    Oracle out;
    out.offset_ticks = *offset;
    // These two are there only where the CPU can scale.
    out.frac_bits = static_cast<int>(
        ReadNumber(vcpu + "tsc-scaling-ratio-frac-bits").value_or(traits_.frac_bits));
    out.ratio = ReadNumber(vcpu + "tsc-scaling-ratio").value_or(uint64_t{1} << out.frac_bits);
    return out;
  }

  uint64_t RealtimeNs() override {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  }

  void PassTime(int64_t ns) override {
    uint64_t until = __rdtsc() + static_cast<uint64_t>(ns) * traits_.host_khz / 1'000'000;
    while (static_cast<int64_t>(__rdtsc() - until) < 0) _mm_pause();
  }

  absl::StatusOr<tsc_kvm_fault> CaptureFromOtherProcess() override {
    int ends[2];
    if (pipe(ends) != 0) return absl::InternalError("pipe failed");
    pid_t child = fork();
    if (child < 0) return absl::InternalError("fork failed");
    tsc_kvm_vm vm = guest_->vm();
    if (child == 0) {
      std::vector<tsc_vcpu_state> states(vm.vcpu_count);
      tsc_kvm_progress progress = {};
      tsc_kvmclock kvmclock;
      tsc_kvm_fault fault;
      tsc_kvm_capture(tsc_kvm_linux_ops(), &vm, &progress, states.data(), &kvmclock, &fault);
      _exit(write(ends[1], &fault, sizeof(fault)) == sizeof(fault) ? 0 : 1);
    }
    close(ends[1]);
    tsc_kvm_fault fault = {};
    ssize_t length = read(ends[0], &fault, sizeof(fault));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (length != sizeof(fault)) return absl::InternalError("the child process died");
    return fault;
  }

 private:
  const std::unique_ptr<RealGuest> guest_;
  const HostTraits traits_;
  Interposer interposer_;
};

class RealBackend final : public Backend {
 public:
  RealBackend(int kvm_fd, const HostTraits& traits) : kvm_fd_(kvm_fd), traits_(traits) {}
  ~RealBackend() override { close(kvm_fd_); }
  const HostTraits& traits() const override { return traits_; }

  absl::StatusOr<std::unique_ptr<ContractVm>> CreateVm(const VmSpec& spec) override {
    absl::StatusOr<std::unique_ptr<RealGuest>> guest = RealGuest::Create(kvm_fd_, spec);
    if (!guest.ok()) return guest.status();
    return std::make_unique<RealContractVm>(*std::move(guest), traits_);
  }

 private:
  const int kvm_fd_;
  const HostTraits traits_;
};

// Whether an offset that was accepted is kept; only reading it back tells.
absl::StatusOr<bool> IsProtected(int kvm_fd) {
  constexpr uint64_t kProbe = 0x123456789abc;
  int vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
  int vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
  absl::StatusOr<bool> out =
      absl::UnavailableError(absl::StrCat("cannot make a VM: ", strerror(errno)));
  if (vcpu >= 0) {
    const tsc_kvm_ops* ops = tsc_kvm_linux_ops();
    absl::Status written = WriteOffset(ops, vcpu, kProbe);
    absl::StatusOr<uint64_t> found = ReadOffset(ops, vcpu);
    if (!written.ok()) {
      out = absl::UnavailableError(written.ToString());
    } else if (!found.ok()) {
      out = absl::UnavailableError(found.status().ToString());
    } else {
      out = *found != kProbe;
    }
    close(vcpu);
  }
  if (vm >= 0) close(vm);
  return out;
}

// Leaves two VMs open for the life of the process, one with a local APIC in the kernel and one
// without.
//
// The first VM of each kind and the last make the kernel patch its own code (static keys; one is in
// the scheduler). Tests that make and destroy hundreds of VMs would have it patched hundreds of
// times, and QEMU's TCG with several threads now and then goes on executing the breakpoint of such
// a patch, whereupon the node stands still.
void KeepKvmInUse(int kvm_fd) {
  for (bool irqchip : {false, true}) {
    int vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    if (vm < 0) return;
    if (irqchip && ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0) return;
    if (ioctl(vm, KVM_CREATE_VCPU, 0) < 0) return;
  }
}

absl::StatusOr<HostTraits> ProbeTraits(int kvm_fd) {
  KeepKvmInUse(kvm_fd);
  tsc_kvm_host probe;
  if (tsc_kvm_probe_host("/dev/kvm", &probe) != 0) {
    return absl::UnavailableError(
        absl::StrCat("KVM cannot be used, step ", probe.failed_step, ": ", strerror(probe.error)));
  }
  absl::StatusOr<bool> is_protected = IsProtected(kvm_fd);
  if (!is_protected.ok()) return is_protected.status();
  int max_id = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
  HostTraits traits;
  traits.host_khz = probe.tsc_khz;
  traits.frac_bits = ReadFile("/proc/cpuinfo").find(" vmx") != std::string::npos ? 48 : 32;
  traits.tsc_control = probe.tsc_control != 0;
  traits.tsc_protected = *is_protected;
  traits.master_clock =
      ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource") == "tsc\n";
  traits.max_vcpu_id =
      max_id > 0 ? std::min<uint32_t>(static_cast<uint32_t>(max_id) - 1, TSC_KVM_MAX_VCPU_ID) : 3;
  traits.many_vcpus = kManyVcpus;
  traits.kvmclock_slack_ns = 100'000;
  return traits;
}

}  // namespace

bool HasDebugfs() { return access(kDebugfs, R_OK | X_OK) == 0; }

absl::StatusOr<std::unique_ptr<Backend>> MakeRealBackend() {
  int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm_fd < 0) return absl::UnavailableError(absl::StrCat("/dev/kvm: ", strerror(errno)));
  // Once: making VMs to look at takes a while under emulation, and the host does not change.
  static const absl::StatusOr<HostTraits> traits = ProbeTraits(kvm_fd);
  if (traits.ok()) return std::make_unique<RealBackend>(kvm_fd, *traits);
  close(kvm_fd);
  return traits.status();
}

}  // namespace tsc_handoff::contract
