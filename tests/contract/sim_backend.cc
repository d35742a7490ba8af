#include "tests/contract/sim_backend.h"

#include <utility>

namespace tsc_handoff::contract {
namespace {

constexpr int kOwner = 1;
constexpr int kOther = 2;
// Between entering the guest, its RDTSC, and leaving.
constexpr int64_t kRunStepNs = 500;

class SimContractVm final : public ContractVm {
 public:
  SimContractVm(sim::SimHost& host, const VmSpec& spec)
      : host_(host),
        vm_(host.CreateVm(
            {.process = kOwner,
             .vcpu_ids = spec.vcpu_ids,
             .vcpu = {.cpuid_tsc_adjust = true, .deadline_mode = spec.deadline_timer}})),
        interposer_(host.OpsFor(kOwner), vm_.view()) {}
  ~SimContractVm() override { host_.DestroyVm(vm_); }

  tsc_kvm_vm vm() const override { return vm_.view(); }
  const tsc_kvm_ops* kernel() const override { return host_.OpsFor(kOwner); }
  Interposer& interposer() override { return interposer_; }

  absl::StatusOr<GuestReading> RunOnce(uint32_t i) override {
    GuestReading out;
    out.host_before_ticks = host_.clock().PeekTsc();
    host_.clock().time().Advance(kRunStepNs);
    host_.Run(vm_.vcpus[i].fd);
    out.guest_ticks = host_.GuestTsc(vm_.vcpus[i].fd);
    host_.clock().time().Advance(kRunStepNs);
    out.host_after_ticks = host_.clock().PeekTsc();
    return out;
  }

  absl::StatusOr<Oracle> ReadOracle(uint32_t i) override {
    return Oracle{host_.Offset(vm_.vcpus[i].fd), host_.Ratio(vm_.vcpus[i].fd),
                  FracBits(host_.traits().vendor)};
  }

  absl::Status Block(uint32_t i) override {
    host_.Block(vm_.vcpus[i].fd);
    return absl::OkStatus();
  }

  absl::Status Unblock(uint32_t i) override {
    host_.Unblock(vm_.vcpus[i].fd);
    return absl::OkStatus();
  }

  uint64_t RealtimeNs() override { return static_cast<uint64_t>(host_.clock().PeekRealtimeNs()); }

  void PassTime(int64_t ns) override { host_.clock().time().Advance(ns); }

  absl::StatusOr<tsc_kvm_fault> CaptureFromOtherProcess() override {
    tsc_kvm_vm vm = vm_.view();
    std::vector<tsc_vcpu_state> states(vm.vcpu_count);
    tsc_kvm_progress progress = {};
    tsc_kvmclock kvmclock;
    tsc_kvm_fault fault;
    tsc_kvm_capture(host_.OpsFor(kOther), &vm, &progress, states.data(), &kvmclock, &fault);
    return fault;
  }

 private:
  sim::SimHost& host_;
  const sim::SimVm vm_;
  Interposer interposer_;
};

class SimBackend final : public Backend {
 public:
  explicit SimBackend(const sim::SimHostOptions& options)
      : time_(std::make_shared<sim::SimTime>()), host_(time_, options) {
    // A host that has been up for a while, so that times and ticks are not small.
    time_->Advance(3'600'000'000'000);
    traits_.host_khz = options.clock.tsc_khz;
    traits_.frac_bits = FracBits(options.kvm.vendor);
    traits_.tsc_control = options.kvm.tsc_control;
    traits_.tsc_protected = options.kvm.tsc_protected;
    traits_.master_clock = options.kvm.tsc_clocksource;
    traits_.max_vcpu_id = TSC_KVM_MAX_VCPU_ID;
    traits_.many_vcpus = TSC_KVM_MAX_VCPUS;
    traits_.kvmclock_slack_ns = 1000;
  }

  const HostTraits& traits() const override { return traits_; }

  absl::StatusOr<std::unique_ptr<ContractVm>> CreateVm(const VmSpec& spec) override {
    return std::make_unique<SimContractVm>(host_, spec);
  }

 private:
  const std::shared_ptr<sim::SimTime> time_;
  sim::SimHost host_;
  HostTraits traits_;
};

}  // namespace

std::unique_ptr<Backend> MakeSimBackend(const sim::SimHostOptions& options) {
  return std::make_unique<SimBackend>(options);
}

}  // namespace tsc_handoff::contract
