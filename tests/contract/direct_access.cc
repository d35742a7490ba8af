#include "tests/contract/access.h"

namespace tsc_handoff::contract {
namespace {

class Direct final : public Access {
 public:
  explicit Direct(ContractVm& vm) : vm_(vm) {}

  CaptureResult Capture() override {
    tsc_kvm_vm vm = vm_.vm();
    CaptureResult out;
    out.vcpus.resize(vm.vcpu_count);
    Begin();
    tsc_kvm_capture(vm_.interposer().ops(), &vm, &progress_, out.vcpus.data(), &out.kvmclock,
                    &out.fault);
    return out;
  }

  ApplyResult Apply(const tsc_kvm_target& target,
                    const std::vector<tsc_vcpu_state>& wanted) override {
    tsc_kvm_vm vm = vm_.vm();
    ApplyResult out;
    out.before.resize(vm.vcpu_count);
    out.after.resize(vm.vcpu_count);
    tsc_kvm_target counted = target;
    counted.vcpu_count = static_cast<uint32_t>(wanted.size());
    Begin();
    tsc_kvm_apply(vm_.interposer().ops(), &vm, &progress_, &counted, wanted.data(),
                  out.before.data(), out.after.data(), &out.kvmclock, &out.fault);
    return out;
  }

  tsc_kvm_progress* progress() override { return &progress_; }

 private:
  void Begin() { __atomic_store_n(&progress_.cancel, 0u, __ATOMIC_RELEASE); }

  ContractVm& vm_;
  tsc_kvm_progress progress_ = {};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Access>> DirectAccess(ContractVm& vm) {
  return std::make_unique<Direct>(vm);
}

}  // namespace tsc_handoff::contract
