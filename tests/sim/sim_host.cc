#include "tests/sim/sim_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>

namespace tsc_handoff::sim {
namespace {

// KVM's limit on the entries of one KVM_GET_MSRS or KVM_SET_MSRS.
constexpr uint32_t kMaxMsrs = 256;

// Numbers far above any descriptor's, another million for each host, so that one host's are unknown
// to another.
int NextFakeFdBase() {
  static std::atomic<uint32_t> hosts{0};
  return static_cast<int>((1 + hosts.fetch_add(1) % 2000) << 20);
}

std::string FdName(uint32_t vcpu, const KvmModel& model) {
  if (vcpu == UINT32_MAX) return "kvm-vm";
  return "kvm-vcpu:" + std::to_string(model.VcpuId(vcpu));
}

[[noreturn]] void Die(const char* what, int fd) {
  fprintf(stderr, "SimHost: %s %d\n", what, fd);
  abort();
}

int CheckExtension(const KvmTraits& traits, uintptr_t extension) {
  switch (extension) {
    case KVM_CAP_TSC_CONTROL:
      return traits.tsc_control ? 1 : 0;
    case KVM_CAP_GET_TSC_KHZ:
    case KVM_CAP_VCPU_ATTRIBUTES:
    case KVM_CAP_TSC_DEADLINE_TIMER:
      return 1;
    case KVM_CAP_ADJUST_CLOCK:
      return KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
    case KVM_CAP_MAX_VCPU_ID:
      return TSC_KVM_MAX_VCPU_ID + 1;
    case KVM_CAP_MAX_VCPUS:
      return TSC_KVM_MAX_VCPUS;
    default:
      return 0;
  }
}

int DeviceAttr(KvmModel& model, size_t vcpu, unsigned long request, const kvm_device_attr& attr) {
  if (attr.group != KVM_VCPU_TSC_CTRL || attr.attr != KVM_VCPU_TSC_OFFSET) return -ENXIO;
  auto* value = reinterpret_cast<uint64_t*>(static_cast<uintptr_t>(attr.addr));
  if (request == KVM_HAS_DEVICE_ATTR) return 0;
  if (value == nullptr) return -EFAULT;
  if (request == KVM_SET_DEVICE_ATTR) {
    model.SetOffset(vcpu, *value);
  } else {
    *value = model.GetOffset(vcpu);
  }
  return 0;
}

// Returns how many entries were done, as KVM does; it stops at the first that it does not know.
int Msrs(KvmModel& model, size_t vcpu, unsigned long request, kvm_msrs& msrs, uint32_t limit) {
  if (msrs.nmsrs >= kMaxMsrs) return -E2BIG;
  uint32_t done = 0;
  for (; done < msrs.nmsrs && done < limit; ++done) {
    kvm_msr_entry& entry = msrs.entries[done];
    if (request == KVM_SET_MSRS) {
      if (!model.WriteMsr(vcpu, entry.index, entry.data)) break;
    } else {
      std::optional<uint64_t> value = model.ReadMsr(vcpu, entry.index);
      if (!value) break;
      entry.data = *value;
    }
  }
  return static_cast<int>(done);
}

}  // namespace

SimHost::SimHost(std::shared_ptr<SimTime> time, SimHostOptions options)
    : options_(std::move(options)),
      clock_(std::move(time), options_.clock),
      fake_fd_base_(NextFakeFdBase()) {}

SimHost::~SimHost() {
  for (const auto& [fd, descriptor] : real_fds_) close(fd);
}

const tsc_kvm_ops* SimHost::OpsFor(int process) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Process>& slot = processes_[process];
  if (slot == nullptr) {
    slot = std::make_unique<Process>(Process{this, process, {}});
    slot->ops = {&SimHost::IoctlEntry, &SimHost::RdtscEntry, slot.get()};
  }
  return &slot->ops;
}

int SimHost::IoctlEntry(void* ctx, int fd, unsigned long request, void* arg) {
  auto* process = static_cast<Process*>(ctx);
  return process->host->Ioctl(process->id, fd, request, arg);
}

uint64_t SimHost::RdtscEntry(void* ctx) {
  return static_cast<Process*>(ctx)->host->clock_.ReadTsc();
}

SimVm SimHost::CreateVm(const SimVmOptions& options) {
  std::lock_guard lock(mutex_);
  auto owned = std::make_unique<Vm>(Vm{options.process, -1, KvmModel(options_.kvm, clock_)});
  Vm* vm = owned.get();
  vm->fd = NewFd({vm, Descriptor::kIsVm});
  vms_[vm->fd] = std::move(owned);
  SimVm out;
  out.vm_fd = vm->fd;
  out.vcpus.reserve(options.vcpu_ids.size());
  for (uint32_t id : options.vcpu_ids) {
    vm->model.AddVcpu(id, options.vcpu);
    int fd = NewFd({vm, static_cast<uint32_t>(vm->model.vcpu_count() - 1)});
    out.vcpus.push_back({id, fd});
  }
  return out;
}

void SimHost::DestroyVm(const SimVm& vm) {
  std::lock_guard lock(mutex_);
  for (const tsc_kvm_vcpu& vcpu : vm.vcpus) CloseFd(vcpu.fd);
  CloseFd(vm.vm_fd);
  vms_.erase(vm.vm_fd);
}

void SimHost::SetOwner(const SimVm& vm, int process) {
  std::lock_guard lock(mutex_);
  Must(vm.vm_fd).vm->process = process;
}

int SimHost::NewFd(const Descriptor& descriptor) {
  if (!options_.real_fds) {
    fake_fds_.push_back(descriptor);
    return fake_fd_base_ + static_cast<int>(fake_fds_.size()) - 1;
  }
  int fd = memfd_create(FdName(descriptor.vcpu, descriptor.vm->model).c_str(), MFD_CLOEXEC);
  if (fd < 0) Die("memfd_create failed, errno", errno);
  // Tells who gets the descriptors which are of one VM.
  const uint64_t mark = reinterpret_cast<uintptr_t>(descriptor.vm);
  if (pwrite(fd, &mark, sizeof(mark), 0) != sizeof(mark)) Die("pwrite failed, errno", errno);
  real_fds_[fd] = descriptor;
  return fd;
}

void SimHost::CloseFd(int fd) {
  if (!options_.real_fds) {
    fake_fds_[static_cast<size_t>(fd - fake_fd_base_)] = {};
  } else if (real_fds_.erase(fd) > 0) {
    close(fd);
  }
}

SimHost::Descriptor SimHost::Find(int fd) const {
  if (options_.real_fds) {
    auto found = real_fds_.find(fd);
    return found == real_fds_.end() ? Descriptor{} : found->second;
  }
  int64_t index = int64_t{fd} - fake_fd_base_;
  if (index < 0 || index >= static_cast<int64_t>(fake_fds_.size())) return {};
  return fake_fds_[static_cast<size_t>(index)];
}

SimHost::Descriptor SimHost::Must(int fd) const {
  Descriptor descriptor = Find(fd);
  if (descriptor.vm == nullptr) Die("no descriptor of this host:", fd);
  return descriptor;
}

void SimHost::WaitUntilNotRunning(std::unique_lock<std::mutex>& lock, int fd) {
  if (!blocked_.contains(fd)) return;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !blocked_.contains(fd); });
  --waiting_;
  changed_.notify_all();
}

int SimHost::Ioctl(int process, int fd, unsigned long request, void* arg) {
  std::unique_lock lock(mutex_);
  Descriptor descriptor = Find(fd);
  SimCall call{process, request, SimCall::kNoVcpu};
  if (descriptor.vm != nullptr && descriptor.vcpu != Descriptor::kIsVm) {
    call.vcpu_id = descriptor.vm->model.VcpuId(descriptor.vcpu);
  }
  if (hook_) {
    std::function<void(const SimCall&)> hook = hook_;
    lock.unlock();
    hook(call);
    lock.lock();
    descriptor = Find(fd);
  }
  if (options_.record_calls) calls_.push_back(call);
  if (descriptor.vm == nullptr) return -EBADF;
  if (descriptor.vm->process != process) return -EIO;
  WaitUntilNotRunning(lock, fd);

  std::optional<Fault> fault = faults_.Next(call);
  if (fault && fault->kind == Fault::Kind::kErrno) return -fault->error;
  clock_.time().Advance(options_.ioctl_ns / 2);
  int result = Execute(descriptor, request, arg, fault ? &*fault : nullptr);
  clock_.time().Advance(options_.ioctl_ns - options_.ioctl_ns / 2);
  return result;
}

int SimHost::Execute(const Descriptor& descriptor, unsigned long request, void* arg,
                     const Fault* fault) {
  KvmModel& model = descriptor.vm->model;
  if (fault != nullptr && fault->kind == Fault::Kind::kDrop) {
    bool msrs = request == KVM_SET_MSRS || request == KVM_GET_MSRS;
    return msrs ? static_cast<int>(static_cast<kvm_msrs*>(arg)->nmsrs) : 0;
  }
  if (descriptor.vcpu == Descriptor::kIsVm) return VmIoctl(model, request, arg);
  return VcpuIoctl(model, descriptor.vcpu, request, arg, fault);
}

int SimHost::VcpuIoctl(KvmModel& model, size_t vcpu, unsigned long request, void* arg,
                       const Fault* fault) {
  switch (request) {
    case KVM_HAS_DEVICE_ATTR:
    case KVM_GET_DEVICE_ATTR:
    case KVM_SET_DEVICE_ATTR:
      if (arg == nullptr) return -EFAULT;
      return DeviceAttr(model, vcpu, request, *static_cast<kvm_device_attr*>(arg));
    case KVM_GET_MSRS:
    case KVM_SET_MSRS:
      if (arg == nullptr) return -EFAULT;
      return Msrs(model, vcpu, request, *static_cast<kvm_msrs*>(arg),
                  fault != nullptr ? fault->count : kMaxMsrs);
    case KVM_GET_TSC_KHZ:
      return model.GetTscKhz(vcpu);
    case KVM_SET_TSC_KHZ:
      return model.SetTscKhz(vcpu, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(arg)));
    case KVM_RUN:
      model.Run(vcpu);
      return 0;
    default:
      return -EINVAL;  // what KVM says of a vCPU ioctl that it does not know
  }
}

int SimHost::VmIoctl(KvmModel& model, unsigned long request, void* arg) {
  switch (request) {
    case KVM_CHECK_EXTENSION:
      return CheckExtension(options_.kvm, reinterpret_cast<uintptr_t>(arg));
    case KVM_GET_CLOCK:
      if (arg == nullptr) return -EFAULT;
      return model.GetClock(*static_cast<kvm_clock_data*>(arg));
    case KVM_SET_CLOCK:
      if (arg == nullptr) return -EFAULT;
      return model.SetClock(*static_cast<kvm_clock_data*>(arg));
    default:
      return -ENOTTY;
  }
}

void SimHost::Run(int vcpu_fd) {
  std::lock_guard lock(mutex_);
  Descriptor descriptor = Must(vcpu_fd);
  descriptor.vm->model.Run(descriptor.vcpu);
}

void SimHost::RunAll(const SimVm& vm) {
  for (const tsc_kvm_vcpu& vcpu : vm.vcpus) Run(vcpu.fd);
}

void SimHost::Block(int vcpu_fd) {
  Run(vcpu_fd);
  std::lock_guard lock(mutex_);
  blocked_.insert(vcpu_fd);
}

void SimHost::Unblock(int vcpu_fd) {
  Run(vcpu_fd);
  std::lock_guard lock(mutex_);
  blocked_.erase(vcpu_fd);
  changed_.notify_all();
}

bool SimHost::AwaitBlockedCalls(int waiters, int timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return waiting_ >= waiters; });
}

void SimHost::Inject(const Fault& fault) {
  std::lock_guard lock(mutex_);
  faults_.Add(fault);
}

void SimHost::ClearFaults() {
  std::lock_guard lock(mutex_);
  faults_.Clear();
}

void SimHost::SetHook(std::function<void(const SimCall&)> hook) {
  std::lock_guard lock(mutex_);
  hook_ = std::move(hook);
}

std::vector<SimCall> SimHost::Calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

void SimHost::ClearCalls() {
  std::lock_guard lock(mutex_);
  calls_.clear();
}

uint64_t SimHost::GuestTsc(int vcpu_fd) const {
  std::lock_guard lock(mutex_);
  Descriptor descriptor = Must(vcpu_fd);
  return descriptor.vm->model.GuestTscAt(descriptor.vcpu, clock_.PeekTsc());
}

uint64_t SimHost::Offset(int vcpu_fd) const {
  std::lock_guard lock(mutex_);
  Descriptor descriptor = Must(vcpu_fd);
  return descriptor.vm->model.GetOffset(descriptor.vcpu);
}

uint64_t SimHost::Ratio(int vcpu_fd) const {
  std::lock_guard lock(mutex_);
  Descriptor descriptor = Must(vcpu_fd);
  return descriptor.vm->model.Ratio(descriptor.vcpu);
}

bool SimHost::CatchUp(int vcpu_fd) const {
  std::lock_guard lock(mutex_);
  Descriptor descriptor = Must(vcpu_fd);
  return descriptor.vm->model.CatchUp(descriptor.vcpu);
}

uint64_t SimHost::KvmclockNs(int vm_fd) const {
  std::lock_guard lock(mutex_);
  kvm_clock_data data;
  Must(vm_fd).vm->model.GetClock(data);
  return data.clock;
}

bool SimHost::MasterClock(int vm_fd) const {
  std::lock_guard lock(mutex_);
  return Must(vm_fd).vm->model.master_clock();
}

}  // namespace tsc_handoff::sim
