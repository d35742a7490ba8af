#include "tests/contract/interposer.h"
#include "tests/sim/kvm_abi.h"

#include <optional>
#include <utility>

namespace tsc_handoff::contract {
namespace {

bool Writes(unsigned long request) {
  return request == KVM_SET_DEVICE_ATTR || request == KVM_SET_MSRS || request == KVM_SET_TSC_KHZ ||
         request == KVM_SET_CLOCK;
}

int AnswerOfSuccess(unsigned long request, const void* arg) {
  bool msrs = request == KVM_SET_MSRS || request == KVM_GET_MSRS;
  return msrs ? static_cast<int>(static_cast<const kvm_msrs*>(arg)->nmsrs) : 0;
}

}  // namespace

Interposer::Interposer(const tsc_kvm_ops* kernel, const tsc_kvm_vm& vm)
    : kernel_(kernel), ops_{&Interposer::IoctlEntry, &Interposer::RdtscEntry, this} {
  for (uint32_t i = 0; i < vm.vcpu_count; ++i) ids_[vm.vcpus[i].fd] = vm.vcpus[i].id;
}

int Interposer::IoctlEntry(void* ctx, int fd, unsigned long request, void* arg) {
  return static_cast<Interposer*>(ctx)->Ioctl(fd, request, arg);
}

uint64_t Interposer::RdtscEntry(void* ctx) {
  const tsc_kvm_ops* kernel = static_cast<Interposer*>(ctx)->kernel_;
  return kernel->rdtsc(kernel->ctx);
}

int Interposer::Ioctl(int fd, unsigned long request, void* arg) {
  LoggedCall call;
  call.request = request;
  auto id = ids_.find(fd);
  if (id != ids_.end()) call.vcpu_id = id->second;
  call.writes = Writes(request);

  std::function<void(uint64_t, const LoggedCall&)> hook;
  uint64_t nth;
  {
    std::lock_guard lock(mutex_);
    log_.push_back(call);
    nth = log_.size();
    hook = hook_;
  }
  if (hook) hook(nth, call);
  std::optional<int> answer = InsteadOf(nth, call, arg);
  return answer ? *answer : kernel_->ioctl(kernel_->ctx, fd, request, arg);
}

std::optional<int> Interposer::InsteadOf(uint64_t nth, const LoggedCall& call, const void* arg) {
  std::lock_guard lock(mutex_);
  auto failure = fail_.find(nth);
  if (failure != fail_.end()) return -failure->second;
  if (fail_from_ != 0 && nth >= fail_from_) return -fail_from_error_;
  if (drop_ != std::make_pair(call.request, call.vcpu_id)) return std::nullopt;
  drop_.reset();
  return AnswerOfSuccess(call.request, arg);
}

void Interposer::Reset() {
  std::lock_guard lock(mutex_);
  log_.clear();
  fail_.clear();
  fail_from_ = 0;
  drop_.reset();
  hook_ = nullptr;
}

void Interposer::FailCall(uint64_t nth, int error) {
  std::lock_guard lock(mutex_);
  fail_[nth] = error;
}

void Interposer::FailFrom(uint64_t nth, int error) {
  std::lock_guard lock(mutex_);
  fail_from_ = nth;
  fail_from_error_ = error;
}

void Interposer::DropFirst(unsigned long request, uint32_t vcpu_id) {
  std::lock_guard lock(mutex_);
  drop_ = {request, vcpu_id};
}

void Interposer::SetHook(std::function<void(uint64_t, const LoggedCall&)> hook) {
  std::lock_guard lock(mutex_);
  hook_ = std::move(hook);
}

std::vector<LoggedCall> Interposer::Log() const {
  std::lock_guard lock(mutex_);
  return log_;
}

}  // namespace tsc_handoff::contract
