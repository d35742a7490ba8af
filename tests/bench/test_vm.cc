#include "tests/bench/test_vm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/clock/host_clock.h"

namespace tsc_handoff::bench {
namespace {

constexpr int kRegistrationTimeoutMs = 60'000;
constexpr uint64_t kPhaseTicks = 1009;
constexpr int kVmmProcess = 1;  // on the simulated host

class RealVm final : public TestVm {
 public:
  static absl::StatusOr<std::unique_ptr<TestVm>> Make(uint32_t vcpus) {
    auto vm = std::make_unique<RealVm>();
    const UniqueFd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm.valid()) return Failed("open /dev/kvm");
    vm->vm_ = UniqueFd(ioctl(kvm.get(), KVM_CREATE_VM, 0));
    if (!vm->vm_.valid()) return Failed("KVM_CREATE_VM");
    const int most = ioctl(vm->vm_.get(), KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    if (most < static_cast<int>(vcpus)) {
      return absl::OutOfRangeError(
          absl::StrCat("this host's KVM gives a VM at most ", most, " vCPUs, not ", vcpus));
    }
    for (uint32_t id = 0; id < vcpus; ++id) {
      vm->owned_.emplace_back(ioctl(vm->vm_.get(), KVM_CREATE_VCPU, id));
      if (!vm->owned_.back().valid()) return Failed(absl::StrCat("KVM_CREATE_VCPU ", id));
      vm->vcpus_.push_back({id, vm->owned_.back().get()});
    }
    return vm;
  }

  tsc_kvm_vm view() const override {
    return {vm_.get(), static_cast<uint32_t>(vcpus_.size()), vcpus_.data()};
  }
  const tsc_kvm_ops* ops() const override { return tsc_kvm_linux_ops(); }
  int64_t RealtimeNs() const override { return clock::LinuxHostClock().ReadRealtimeNs(); }

 private:
  static absl::Status Failed(const std::string& what) {
    return absl::UnavailableError(absl::StrCat(what, ": ", strerror(errno)));
  }

  UniqueFd vm_;
  std::vector<UniqueFd> owned_;
  std::vector<tsc_kvm_vcpu> vcpus_;
};

class SimulatedVm final : public TestVm {
 public:
  SimulatedVm(sim::SimHost& host, uint32_t vcpus, int64_t ioctl_ns)
      : host_(host),
        inner_(host.OpsFor(kVmmProcess)),
        ioctl_ns_(ioctl_ns),
        vm_(host.CreateVm({.process = kVmmProcess, .vcpu_ids = Ids(vcpus)})),
        ops_{&SlowIoctl, &Rdtsc, this} {}
  ~SimulatedVm() override { host_.DestroyVm(vm_); }

  tsc_kvm_vm view() const override { return vm_.view(); }
  const tsc_kvm_ops* ops() const override { return ioctl_ns_ > 0 ? &ops_ : inner_; }
  int64_t RealtimeNs() const override { return host_.clock().ReadRealtimeNs(); }

 private:
  using Clock = std::chrono::steady_clock;

  static std::vector<uint32_t> Ids(uint32_t count) {
    std::vector<uint32_t> ids(count);
    std::iota(ids.begin(), ids.end(), 0u);
    return ids;
  }

  // An ioctl keeps its CPU busy; so does this.
  static int SlowIoctl(void* ctx, int fd, unsigned long request, void* arg) {
    const auto* self = static_cast<const SimulatedVm*>(ctx);
    const auto end = Clock::now() + std::chrono::nanoseconds(self->ioctl_ns_);
    const int result = self->inner_->ioctl(self->inner_->ctx, fd, request, arg);
    while (Clock::now() < end) {
    }
    return result;
  }
  static uint64_t Rdtsc(void* ctx) {
    const auto* self = static_cast<const SimulatedVm*>(ctx);
    return self->inner_->rdtsc(self->inner_->ctx);
  }

  sim::SimHost& host_;
  const tsc_kvm_ops* const inner_;
  const int64_t ioctl_ns_;
  const sim::SimVm vm_;
  const tsc_kvm_ops ops_;
};

tsc_vmm_config Config(const TestVm& vm, const std::string& vm_id, const char* vmm_socket) {
  const tsc_kvm_vm view = vm.view();
  tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  config.agent_socket = vmm_socket;
  config.vm_id = vm_id.c_str();
  config.vm_fd = view.vm_fd;
  config.vcpus = view.vcpus;
  config.vcpu_count = view.vcpu_count;
  config.ops = vm.ops();
  return config;
}

// The host TSC at which kvmclock was read.
uint64_t ReadAtTicks(const tsc_kvmclock& reading) {
  if ((reading.flags & KVM_CLOCK_HOST_TSC) != 0) return reading.pair_host_tsc_ticks;
  return reading.tsc_before_ticks + (reading.tsc_after_ticks - reading.tsc_before_ticks) / 2;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TestVm>> MakeRealVm(uint32_t vcpus) { return RealVm::Make(vcpus); }

absl::StatusOr<std::unique_ptr<TestVm>> MakeSimulatedVm(sim::SimHost& host, uint32_t vcpus,
                                                        int64_t ioctl_ns) {
  return std::make_unique<SimulatedVm>(host, vcpus, ioctl_ns);
}

BareLoop::BareLoop(const TestVm& vm, uint32_t host_khz)
    : vm_(vm),
      host_khz_(host_khz),
      states_(vm.view().vcpu_count),
      before_(states_.size()),
      after_(states_.size()) {}

absl::Status BareLoop::ToStatus(const char* what, const tsc_kvm_fault& fault) const {
  if (fault.outcome == TSC_KVM_OK) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(what, " of ", states_.size(), " vCPUs: outcome ", fault.outcome, " at step ",
                   fault.step, ", vCPU ", fault.vcpu_id, ", errno ", fault.error, ", found ",
                   static_cast<int64_t>(fault.found - fault.wanted), " above what was wanted"));
}

absl::Status BareLoop::Capture() {
  const tsc_kvm_vm view = vm_.view();
  tsc_kvm_progress progress = {};
  tsc_kvm_fault fault;
  tsc_kvm_capture(vm_.ops(), &view, &progress, states_.data(), &kvmclock_, &fault);
  const uint64_t now_ticks = vm_.ops()->rdtsc(vm_.ops()->ctx);
  realtime_ns_ = static_cast<uint64_t>(vm_.RealtimeNs()) -
                 (now_ticks - ReadAtTicks(kvmclock_)) * 1'000'000 / host_khz_;
  return ToStatus("capture", fault);
}

absl::Status BareLoop::Apply() { return Apply(Target()); }

absl::Status BareLoop::Apply(const tsc_kvm_target& target) {
  const tsc_kvm_vm view = vm_.view();
  tsc_kvm_progress progress = {};
  tsc_kvmclock_result result;
  tsc_kvm_fault fault;
  tsc_kvm_apply(vm_.ops(), &view, &progress, &target, states_.data(), before_.data(), after_.data(),
                &result, &fault);
  return ToStatus("apply", fault);
}

tsc_kvm_target BareLoop::Target() const {
  tsc_kvm_target target = {};
  target.flags = TSC_TARGET_WRITE_KVMCLOCK;  // and not the frequency: it is the host's own
  target.vcpu_count = static_cast<uint32_t>(states_.size());
  target.kvmclock_ns = kvmclock_.kvmclock_ns;
  target.host_tsc_khz = host_khz_;
  target.host_tsc_ticks = ReadAtTicks(kvmclock_);
  target.realtime_ns = realtime_ns_;
  return target;
}

absl::Status BareLoop::MakeUnequal() {
  if (absl::Status status = Capture(); !status.ok()) return status;
  for (size_t i = 0; i < states_.size(); ++i)
    states_[i].tsc_offset_ticks = states_[0].tsc_offset_ticks + i * kPhaseTicks;
  tsc_kvm_target target = Target();
  target.flags = 0;
  return Apply(target);
}

absl::StatusOr<std::unique_ptr<Session>> Session::Connect(const TestVm& vm,
                                                          const std::string& vm_id,
                                                          const std::string& vmm_socket) {
  const tsc_vmm_config config = Config(vm, vm_id, vmm_socket.c_str());
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_open(&config, &session, why) != 0) return absl::InvalidArgumentError(why);
  return std::unique_ptr<Session>(new Session(session));
}

absl::StatusOr<std::unique_ptr<Session>> Session::ConnectPair(const TestVm& vm,
                                                              const std::string& vm_id,
                                                              UniqueFd& agents_end) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return absl::ResourceExhaustedError(absl::StrCat("socketpair: ", strerror(errno)));
  agents_end = UniqueFd(ends[0]);
  const tsc_vmm_config config = Config(vm, vm_id, nullptr);
  tsc_vmm* session = nullptr;
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_open_socket(&config, ends[1], &session, why) != 0)
    return absl::InvalidArgumentError(why);
  return std::unique_ptr<Session>(new Session(session));
}

Session::~Session() { tsc_vmm_close(session_); }

absl::Status Session::AwaitRegistered() {
  char why[TSC_VMM_ERROR_SIZE];
  if (tsc_vmm_wait_registered(session_, kRegistrationTimeoutMs, why) != 0)
    return absl::UnavailableError(absl::StrCat("the VM is not registered: ", why));
  return absl::OkStatus();
}

}  // namespace tsc_handoff::bench
