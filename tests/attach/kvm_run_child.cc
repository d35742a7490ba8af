#include "tests/attach/kvm_run_child.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <new>

#include "server/attach/kvm_threads.h"
#include "server/attach/testing/registers.h"
#include "tests/sim/kvm_abi.h"

namespace tsc_handoff::attach {
namespace {

constexpr size_t kGuestBytes = 0x10000;
constexpr uint64_t kCodeAt = 0x1000;
constexpr uint64_t kStackAt = 0x3000;
constexpr size_t kCounterAt = 0x4000;
constexpr size_t kStopAt = kCounterAt + 4;

// again: inc dword [bx]; cmp byte [bx+4], 0; je again; out 0x10, al; jmp again
constexpr unsigned char kCount[] = {0x66, 0xff, 0x07, 0x80, 0x7f, 0x04, 0x00,
                                    0x74, 0xf7, 0xe6, 0x10, 0xeb, 0xf3};
// again: hlt; jmp again
constexpr unsigned char kHalt[] = {0xf4, 0xeb, 0xfd};

constexpr int kKick = SIGUSR1;
// In the thread's mask, but for the time of KVM_RUN where that has a mask of its own.
constexpr int kBlocked = SIGUSR2;

// A VM of one vCPU; its descriptors are closed by the end of the process.
struct Vm {
  int vm_fd = -1;
  int vcpu_fd = -1;
};

}  // namespace

struct KvmRunChild::Shared {
  GuestCode code;
  bool own_mask;
  Vm running;
  Vm paused;
  std::atomic<uint64_t> interruptions;
  std::atomic<bool> ended;
  alignas(4096) unsigned char guest[kGuestBytes];
};

namespace {

// Of the child that is made next, and, in that, its own.
KvmRunChild::Shared* shared = nullptr;

bool Fail(ChildState& state, const char* what) {
  snprintf(state.failure, sizeof(state.failure), "%s: %s", what, strerror(errno));
  return false;
}

bool MakeVm(int kvm, bool halts, Vm& vm) {
  vm.vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
  // With a local APIC in the kernel a halted vCPU waits there.
  if (vm.vm_fd < 0 || (halts && ioctl(vm.vm_fd, KVM_CREATE_IRQCHIP, 0) != 0)) return false;
  kvm_userspace_memory_region region = {};
  region.memory_size = kGuestBytes;
  region.userspace_addr = reinterpret_cast<uintptr_t>(shared->guest);
  if (ioctl(vm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0) return false;
  vm.vcpu_fd = ioctl(vm.vm_fd, KVM_CREATE_VCPU, 0);
  return vm.vcpu_fd >= 0;
}

bool SetGuest(const Vm& vm) {
  const bool halts = shared->code == GuestCode::kHalts;
  memcpy(shared->guest + kCodeAt, halts ? kHalt : kCount, halts ? sizeof(kHalt) : sizeof(kCount));
  kvm_sregs sregs;
  if (ioctl(vm.vcpu_fd, KVM_GET_SREGS, &sregs) != 0) return false;
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  if (ioctl(vm.vcpu_fd, KVM_SET_SREGS, &sregs) != 0) return false;
  kvm_regs regs = {};
  regs.rip = kCodeAt;
  regs.rbx = kCounterAt;
  regs.rsp = kStackAt;
  regs.rflags = 2;
  return ioctl(vm.vcpu_fd, KVM_SET_REGS, &regs) == 0;
}

uint64_t OffsetOf(const Vm& vm) {
  uint64_t ticks = 0;
  kvm_device_attr attribute = {};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uintptr_t>(&ticks);
  return ioctl(vm.vcpu_fd, KVM_GET_DEVICE_ATTR, &attribute) == 0 ? ticks : 0;
}

// The masks as the kernel has them: 64 bits.
uint64_t Mask() {
  uint64_t mask = 0;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, sizeof(mask));
  return mask;
}

uint64_t FsBase() {
  uint64_t base = 0;
  syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
  return base;
}

bool SetMasks(const Vm& vm) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, kBlocked);
  if (pthread_sigmask(SIG_SETMASK, &blocked, nullptr) != 0) return false;
  if (!shared->own_mask) return true;
  struct {
    uint32_t length = 8;
    unsigned char none[8] = {};
  } mask;
  static_assert(sizeof(mask) == sizeof(kvm_signal_mask) + 8);
  return ioctl(vm.vcpu_fd, KVM_SET_SIGNAL_MASK, &mask) == 0;
}

bool ExecuteAndCheck(ChildState& state) {
  const Vm& vm = shared->running;
  const uint64_t mask = Mask();
  const uint64_t base = FsBase();
  const uint64_t offset = OffsetOf(vm);
  const long call[7] = {SYS_ioctl, vm.vcpu_fd, KVM_RUN, 0, 0x4444, 0x5555, 0x6666};
  state.ready = 1;
  while (state.stop == 0) {
    long result = 0;
    const long differences = syscall_and_check_registers(call, &result);
    errno = static_cast<int>(-result);
    if (differences != 0) return Fail(state, "registers differ after KVM_RUN");
    if (result != 0 && result != -EINTR) return Fail(state, "KVM_RUN");
    if (FsBase() != base) return Fail(state, "the base of fs has changed");
    if (Mask() != mask) return Fail(state, "the signal mask has changed");
    if (result != 0) ++shared->interruptions;
    ++state.rounds;
  }
  if (OffsetOf(vm) != offset) return Fail(state, "the running VM's offset has changed");
  return true;
}

bool Work(ChildState& state) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(kKick, &action, nullptr);
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  const bool halts = shared->code == GuestCode::kHalts;
  if (kvm < 0 || !MakeVm(kvm, halts, shared->running) || !MakeVm(kvm, halts, shared->paused))
    return Fail(state, "no VM");
  if (!SetGuest(shared->running) || !SetMasks(shared->running)) return Fail(state, "no guest");
  const bool good = ExecuteAndCheck(state);
  shared->ended = true;
  return good;
}

AttachedVm AsAttached(const char* vm_id, const Vm& vm) {
  return {vm_id, vm.vm_fd, {{0, vm.vcpu_fd}}};
}

}  // namespace

KvmRunChild::KvmRunChild(GuestCode code, bool own_mask)
    : shared_(new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                        -1, 0)) Shared()) {
  shared_->code = code;
  shared_->own_mask = own_mask;
  shared = shared_;
  child_ = std::make_unique<Child>(Work);
}

KvmRunChild::~KvmRunChild() {
  child_.reset();
  munmap(shared_, sizeof(Shared));
}

std::string KvmRunChild::NotReady() const {
  const bool runs = shared_->code == GuestCode::kHalts ? WaitFor([this] { return WaitsInKvmRun(); })
                                                       : WaitFor([this] { return count() != 0; });
  return runs ? "" : std::string("the guest does not execute: ") + child_->state().failure;
}

AttachedVm KvmRunChild::running_vm() const { return AsAttached("running", shared_->running); }
AttachedVm KvmRunChild::paused_vm() const { return AsAttached("paused", shared_->paused); }

uint32_t KvmRunChild::count() const {
  return *reinterpret_cast<const volatile uint32_t*>(shared_->guest + kCounterAt);
}

uint64_t KvmRunChild::interruptions() const { return shared_->interruptions; }

bool KvmRunChild::WaitsInKvmRun() const {
  std::ifstream file("/proc/" + std::to_string(pid()) + "/syscall");
  long number = -1;
  uint64_t fd = 0;
  uint64_t request = 0;
  if (!(file >> number >> std::hex >> fd >> request)) return false;
  return IsKvmRun(number, fd, request, {shared_->running.vcpu_fd});
}

std::string KvmRunChild::Finish() {
  child_->state().stop = 1;
  shared_->guest[kStopAt] = 1;
  // A signal that comes just before KVM_RUN is none for it.
  WaitFor([this] {
    kill(pid(), kKick);
    return shared_->ended.load();
  });
  return child_->Finish();
}

}  // namespace tsc_handoff::attach
