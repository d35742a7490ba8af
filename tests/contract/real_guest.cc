#include "tests/contract/real_guest.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::contract {
namespace {

constexpr size_t kMemorySize = 0x10000;
constexpr uint64_t kReadTscAt = 0x1000;
constexpr uint64_t kSpinAt = 0x1100;
constexpr uint64_t kIgnoreInterruptAt = 0x1200;
constexpr uint64_t kStackAt = 0x3000;
constexpr uint64_t kSlotsAt = 0x4000;
constexpr size_t kSlotSize = 16;

// rdtsc; mov [bx], eax; mov [bx+4], edx; out 0x10, al; jmp to the start
constexpr unsigned char kReadTscCode[] = {0x0f, 0x31, 0x66, 0x89, 0x07, 0x66, 0x89,
                                          0x57, 0x04, 0xe6, 0x10, 0xeb, 0xf3};
// inc word [bx+8]; jmp to the start
constexpr unsigned char kSpinCode[] = {0xff, 0x47, 0x08, 0xeb, 0xfb};
// iret
constexpr unsigned char kIgnoreInterruptCode[] = {0xcf};
constexpr uint32_t kTimerVector = 0x30;

constexpr uint64_t kReservedFlag = 1u << 1;
constexpr uint64_t kInterruptFlag = 1u << 9;

constexpr int kKick = SIGUSR1;
constexpr int64_t kDeadlineNs = 20'000'000'000;

absl::Status Errno(const std::string& what) {
  int error = errno;
  return absl::InternalError(absl::StrCat(what, ": ", strerror(error)));
}

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

uint64_t Rdtsc() {
  unsigned int cpu;
  uint64_t tsc = __rdtscp(&cpu);
  _mm_lfence();
  return tsc;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RealGuest>> RealGuest::Create(int kvm_fd, const VmSpec& spec) {
  auto guest = std::unique_ptr<RealGuest>(new RealGuest());
  absl::Status status = guest->Init(kvm_fd, spec);
  if (!status.ok()) return status;
  return guest;
}

RealGuest::~RealGuest() {
  while (!spinners_.empty()) (void)StopSpinning(spinners_.back()->vcpu);
  for (kvm_run* run : runs_) munmap(run, static_cast<size_t>(run_size_));
  for (const tsc_kvm_vcpu& vcpu : handles_) close(vcpu.fd);
  if (vm_fd_ >= 0) close(vm_fd_);
  if (memory_ != nullptr) munmap(memory_, kMemorySize);
}

absl::Status RealGuest::Init(int kvm_fd, const VmSpec& spec) {
  // A kick has to interrupt KVM_RUN, so the handler must exist and do nothing.
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  if (sigaction(kKick, &action, nullptr) != 0) return Errno("sigaction");
  vm_fd_ = ioctl(kvm_fd, KVM_CREATE_VM, 0);
  if (vm_fd_ < 0) return Errno("KVM_CREATE_VM");
  run_size_ = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size_ <= 0) return Errno("KVM_GET_VCPU_MMAP_SIZE");
  // Intel without unrestricted guests emulates real mode and needs room for that; elsewhere it does
  // no harm.
  if (ioctl(vm_fd_, KVM_SET_TSS_ADDR, 0xfffbd000ul) != 0) return Errno("KVM_SET_TSS_ADDR");
  if (spec.deadline_timer && ioctl(vm_fd_, KVM_CREATE_IRQCHIP, 0) != 0)
    return Errno("KVM_CREATE_IRQCHIP");
  absl::Status status = MakeMemory();
  for (uint32_t id : spec.vcpu_ids) {
    if (!status.ok()) break;
    status = MakeVcpu(kvm_fd, id, spec);
  }
  return status;
}

absl::Status RealGuest::MakeMemory() {
  void* memory =
      mmap(nullptr, kMemorySize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Errno("mmap of the guest's memory");
  memory_ = static_cast<unsigned char*>(memory);
  memcpy(memory_ + kReadTscAt, kReadTscCode, sizeof(kReadTscCode));
  memcpy(memory_ + kSpinAt, kSpinCode, sizeof(kSpinCode));
  memcpy(memory_ + kIgnoreInterruptAt, kIgnoreInterruptCode, sizeof(kIgnoreInterruptCode));
  const uint16_t handler[2] = {kIgnoreInterruptAt, 0};  // offset, segment
  memcpy(memory_ + kTimerVector * sizeof(handler), handler, sizeof(handler));
  kvm_userspace_memory_region region = {};
  region.memory_size = kMemorySize;
  region.userspace_addr = reinterpret_cast<uintptr_t>(memory);
  if (ioctl(vm_fd_, KVM_SET_USER_MEMORY_REGION, &region) != 0)
    return Errno("KVM_SET_USER_MEMORY_REGION");
  return absl::OkStatus();
}

absl::Status RealGuest::MakeVcpu(int kvm_fd, uint32_t id, const VmSpec& spec) {
  int fd = ioctl(vm_fd_, KVM_CREATE_VCPU, static_cast<unsigned long>(id));
  if (fd < 0) return Errno(absl::StrCat("KVM_CREATE_VCPU of id ", id));
  handles_.push_back({id, fd});
  void* run =
      mmap(nullptr, static_cast<size_t>(run_size_), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) return Errno("mmap of kvm_run");
  runs_.push_back(static_cast<kvm_run*>(run));
  absl::Status status = SetCpuid(kvm_fd, fd);
  if (!status.ok() || !spec.deadline_timer) return status;
  // With a local APIC in the kernel all but the first vCPU would wait for a start-up IPI.
  kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
  if (ioctl(fd, KVM_SET_MP_STATE, &runnable) != 0) return Errno("KVM_SET_MP_STATE");
  return SetDeadlineMode(fd);
}

absl::Status RealGuest::SetCpuid(int kvm_fd, int fd) {
  // A kvm_cpuid2 with room; nothing may follow its flexible array.
  struct Cpuid {
    uint32_t count = 256;
    uint32_t padding = 0;
    kvm_cpuid_entry2 entries[256] = {};
  };
  auto cpuid = std::make_unique<Cpuid>();
  if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid.get()) != 0) {
    return Errno("KVM_GET_SUPPORTED_CPUID");
  }
  for (uint32_t i = 0; i < cpuid->count; ++i) {
    kvm_cpuid_entry2& entry = cpuid->entries[i];
    // KVM leaves it to the VMM to offer the deadline timer: KVM_CAP_TSC_DEADLINE_TIMER says that it
    // can.
    if (entry.function == 1) entry.ecx |= 1u << 24;
  }
  if (ioctl(fd, KVM_SET_CPUID2, cpuid.get()) != 0) return Errno("KVM_SET_CPUID2");
  return absl::OkStatus();
}

absl::Status RealGuest::SetDeadlineMode(int fd) {
  constexpr size_t kSpuriousVector = 0xf0;
  constexpr size_t kLvtTimer = 0x320;
  constexpr uint32_t kApicEnabled = 1u << 8;
  constexpr uint32_t kDeadlineMode = 2u << 17;
  kvm_lapic_state lapic;
  if (ioctl(fd, KVM_GET_LAPIC, &lapic) != 0) return Errno("KVM_GET_LAPIC");
  uint32_t spurious = kApicEnabled | 0xff;
  // Not masked, because KVM never clears the deadline of a masked timer.
  uint32_t timer = kDeadlineMode | kTimerVector;
  memcpy(lapic.regs + kSpuriousVector, &spurious, sizeof(spurious));
  memcpy(lapic.regs + kLvtTimer, &timer, sizeof(timer));
  if (ioctl(fd, KVM_SET_LAPIC, &lapic) != 0) return Errno("KVM_SET_LAPIC");
  return absl::OkStatus();
}

volatile uint32_t* RealGuest::SlotOf(uint32_t i) const {
  return reinterpret_cast<volatile uint32_t*>(memory_ + kSlotsAt + i * kSlotSize);
}

absl::Status RealGuest::SetRegisters(uint32_t i, uint64_t rip) {
  int fd = handles_[i].fd;
  kvm_sregs sregs;
  if (ioctl(fd, KVM_GET_SREGS, &sregs) != 0) return Errno("KVM_GET_SREGS");
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  if (ioctl(fd, KVM_SET_SREGS, &sregs) != 0) return Errno("KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = rip;
  regs.rbx = kSlotsAt + i * kSlotSize;
  regs.rsp = kStackAt;
  // Interrupts are on while it spins: Bochs does not leave a guest for the host's interrupts while
  // the guest's own are off, and a guest that never leaves stops a machine of one CPU for good.
  regs.rflags = kReservedFlag | (rip == kSpinAt ? kInterruptFlag : 0);
  if (ioctl(fd, KVM_SET_REGS, &regs) != 0) return Errno("KVM_SET_REGS");
  return absl::OkStatus();
}

absl::StatusOr<GuestReading> RealGuest::RunOnce(uint32_t i) {
  absl::Status status = SetRegisters(i, kReadTscAt);
  if (!status.ok()) return status;
  GuestReading out;
  int result;
  do {
    out.host_before_ticks = Rdtsc();
    result = ioctl(handles_[i].fd, KVM_RUN, 0);
    out.host_after_ticks = Rdtsc();
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Errno("KVM_RUN");
  if (runs_[i]->exit_reason != KVM_EXIT_IO) {
    return absl::InternalError(absl::StrCat("KVM_RUN left the guest for reason ",
                                            runs_[i]->exit_reason,
                                            " instead of its OUT instruction"));
  }
  out.guest_ticks = SlotOf(i)[0] | uint64_t{SlotOf(i)[1]} << 32;
  return out;
}

void RealGuest::SpinUntilStopped(Spinner& spinner) {
  while (!spinner.stop.load()) {
    // Fails with EINTR when kicked.
    (void)ioctl(handles_[spinner.vcpu].fd, KVM_RUN, 0);
  }
}

absl::Status RealGuest::StartSpinning(uint32_t i) {
  absl::Status status = SetRegisters(i, kSpinAt);
  if (!status.ok()) return status;
  volatile uint32_t& turns = SlotOf(i)[2];
  uint32_t before = turns;
  runs_[i]->immediate_exit = 0;
  auto spinner = std::make_unique<Spinner>();
  spinner->vcpu = i;
  Spinner& started = *spinner;
  spinner->thread = std::thread([this, &started] { SpinUntilStopped(started); });
  spinners_.push_back(std::move(spinner));
  int64_t give_up_ns = MonotonicNs() + kDeadlineNs;
  while (turns == before) {
    if (MonotonicNs() > give_up_ns)
      return absl::DeadlineExceededError("the spinning vCPU does not execute");
    std::this_thread::yield();
  }
  return absl::OkStatus();
}

absl::Status RealGuest::StopSpinning(uint32_t i) {
  for (auto it = spinners_.begin(); it != spinners_.end(); ++it) {
    if ((*it)->vcpu != i) continue;
    (*it)->stop.store(true);
    // immediate_exit catches a kick that comes just before KVM_RUN.
    runs_[i]->immediate_exit = 1;
    pthread_kill((*it)->thread.native_handle(), kKick);
    (*it)->thread.join();
    runs_[i]->immediate_exit = 0;
    spinners_.erase(it);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat("vCPU ", i, " is not spinning"));
}

}  // namespace tsc_handoff::contract
