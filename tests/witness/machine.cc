#include "tests/witness/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <iterator>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/witness/kvm_lists.h"
#include "tests/witness/vcpu_state.h"

namespace tsc_handoff::witness {
namespace {

constexpr uint32_t kMsrTscAdjust = 0x3b;

absl::Status Failed(const char* what) { return absl::ErrnoToStatus(errno, what); }

absl::Status FailedOn(const char* what, const Vcpu& vcpu) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " of vCPU ", vcpu.id));
}

absl::Status NoKvm(const std::string& why) {
  return absl::UnavailableError(absl::StrCat(why,
                                             "; run this on a host with KVM as a user who may open "
                                             "/dev/kvm, or in a node of the test cluster"));
}

kvm_device_attr OffsetAttribute(uint64_t* ticks) {
  kvm_device_attr attribute = {};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uint64_t>(ticks);
  return attribute;
}

absl::Status SetTscOffset(const Vcpu& vcpu, uint64_t ticks) {
  kvm_device_attr attribute = OffsetAttribute(&ticks);
  if (ioctl(vcpu.fd, KVM_SET_DEVICE_ATTR, &attribute) != 0)
    return FailedOn("KVM_SET_DEVICE_ATTR(TSC_OFFSET)", vcpu);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> GetTscOffset(const Vcpu& vcpu) {
  uint64_t ticks = 0;
  kvm_device_attr attribute = OffsetAttribute(&ticks);
  if (ioctl(vcpu.fd, KVM_GET_DEVICE_ATTR, &attribute) != 0)
    return FailedOn("KVM_GET_DEVICE_ATTR(TSC_OFFSET)", vcpu);
  return ticks;
}

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(const MachineConfig& config) {
  std::unique_ptr<Machine> machine(new Machine());
  if (absl::Status status = machine->CreateVm(config); !status.ok()) return status;
  for (uint32_t id : config.vcpu_ids) {
    if (absl::Status status = machine->CreateVcpu(id); !status.ok()) return status;
  }
  return machine;
}

Machine::~Machine() {
  for (const Vcpu& vcpu : vcpus_) {
    if (vcpu.run != nullptr) munmap(vcpu.run, run_size_);
    if (vcpu.fd >= 0) close(vcpu.fd);
  }
  if (vm_fd_ >= 0) close(vm_fd_);
  if (kvm_fd_ >= 0) close(kvm_fd_);
  if (memory_ != nullptr) munmap(memory_, WITNESS_MEMORY_SIZE);
}

volatile WitnessShared* Machine::shared() const {
  return reinterpret_cast<volatile WitnessShared*>(memory_ + WITNESS_SHARED_GPA);
}

volatile WitnessVcpu* Machine::record(size_t index) const {
  return reinterpret_cast<volatile WitnessVcpu*>(memory_ + WITNESS_VCPUS_GPA +
                                                 index * WITNESS_V_SIZE);
}

absl::Status Machine::CreateVm(const MachineConfig& config) {
  kvm_fd_ = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm_fd_ < 0) return NoKvm(absl::StrCat("cannot open /dev/kvm: ", std::strerror(errno)));
  if (ioctl(kvm_fd_, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
    return NoKvm("/dev/kvm has another API version");
  if (ioctl(kvm_fd_, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0)
    return NoKvm("KVM lacks immediate_exit");
  const int run_size = ioctl(kvm_fd_, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0) return Failed("KVM_GET_VCPU_MMAP_SIZE");
  run_size_ = static_cast<size_t>(run_size);

  vm_fd_ = ioctl(kvm_fd_, KVM_CREATE_VM, 0);
  if (vm_fd_ < 0) return NoKvm(absl::StrCat("KVM_CREATE_VM: ", std::strerror(errno)));
  // VMX without unrestricted guests needs these pages; elsewhere they are ignored.
  uint64_t identity_map = 0xfffbc000;
  if (ioctl(vm_fd_, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0)
    return Failed("KVM_SET_IDENTITY_MAP_ADDR");
  if (ioctl(vm_fd_, KVM_SET_TSS_ADDR, 0xfffbd000ul) != 0) return Failed("KVM_SET_TSS_ADDR");
  if (config.irqchip) {
    // Local APICs only: that is where the deadline timer is, and there is no PIC or IO-APIC to
    // save.
    kvm_enable_cap split = {};
    split.cap = KVM_CAP_SPLIT_IRQCHIP;
    split.args[0] = 24;
    if (ioctl(vm_fd_, KVM_ENABLE_CAP, &split) != 0) return Failed("KVM_ENABLE_CAP(SPLIT_IRQCHIP)");
    irqchip_ = true;
  }

  void* memory =
      mmap(nullptr, WITNESS_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Failed("mmap of the guest's memory");
  memory_ = static_cast<uint8_t*>(memory);
  kvm_userspace_memory_region region = {};
  region.memory_size = WITNESS_MEMORY_SIZE;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory_);
  if (ioctl(vm_fd_, KVM_SET_USER_MEMORY_REGION, &region) != 0)
    return Failed("KVM_SET_USER_MEMORY_REGION");
  return absl::OkStatus();
}

absl::Status Machine::CreateVcpu(uint32_t id) {
  Vcpu& vcpu = vcpus_.emplace_back();
  vcpu.id = id;
  vcpu.fd = ioctl(vm_fd_, KVM_CREATE_VCPU, static_cast<unsigned long>(id));
  if (vcpu.fd < 0) return FailedOn("KVM_CREATE_VCPU", vcpu);
  void* run = mmap(nullptr, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
  if (run == MAP_FAILED) return FailedOn("mmap of kvm_run", vcpu);
  vcpu.run = static_cast<kvm_run*>(run);
  if (absl::Status status = SetCpuid(vcpu); !status.ok()) return status;
  // With local APICs only the first vCPU starts runnable; the others would wait for a SIPI that
  // nobody sends.
  kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
  if (ioctl(vcpu.fd, KVM_SET_MP_STATE, &runnable) != 0) return FailedOn("KVM_SET_MP_STATE", vcpu);
  return absl::OkStatus();
}

absl::Status Machine::SetCpuid(const Vcpu& vcpu) const {
  auto cpuid = std::make_unique<CpuidList>();
  cpuid->count = std::size(cpuid->entries);
  if (ioctl(kvm_fd_, kKvmGetSupportedCpuid, cpuid.get()) != 0)
    return Failed("KVM_GET_SUPPORTED_CPUID");
  for (uint32_t i = 0; i < cpuid->count; ++i) {
    kvm_cpuid_entry2& entry = cpuid->entries[i];
    // KVM emulates TSC_ADJUST everywhere, and says so; a host's CPUID filter must not hide it from
    // this guest.
    if (entry.function == 7 && entry.index == 0) entry.ebx |= 1u << 1;
    // Never in KVM_GET_SUPPORTED_CPUID, because it needs the in-kernel APIC.
    if (entry.function == 1 && irqchip_) entry.ecx |= 1u << 24;
    if (entry.function == 1) entry.ebx = (entry.ebx & 0x00ffffff) | (vcpu.id << 24);
  }
  if (ioctl(vcpu.fd, kKvmSetCpuid2, cpuid.get()) != 0) return FailedOn("KVM_SET_CPUID2", vcpu);
  return absl::OkStatus();
}

void Machine::WriteMemory(const GuestSetup& setup) {
  std::memset(memory_, 0, WITNESS_MEMORY_SIZE);
  // One 2 MiB page, one to one.
  const uint64_t table = 0x3;        // present, writable
  const uint64_t large_page = 0x83;  // the same, and a page
  const uint64_t pml4e = WITNESS_PDPT_GPA | table, pdpte = WITNESS_PD_GPA | table;
  std::memcpy(memory_ + WITNESS_PML4_GPA, &pml4e, sizeof pml4e);
  std::memcpy(memory_ + WITNESS_PDPT_GPA, &pdpte, sizeof pdpte);
  std::memcpy(memory_ + WITNESS_PD_GPA, &large_page, sizeof large_page);
  std::memcpy(memory_ + WITNESS_CODE_GPA, witness_guest_begin,
              static_cast<size_t>(witness_guest_end - witness_guest_begin));
  shared()->magic = kRecordMagic;
  shared()->version = WITNESS_RECORD_VERSION;
  shared()->vcpu_count = static_cast<uint32_t>(vcpus_.size());
  shared()->check_across = setup.check_across;
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    record(i)->index = static_cast<uint32_t>(i);
    record(i)->phase_ticks = setup.phase_ticks[i];
    record(i)->deadline_period_ticks = setup.deadline_period_ticks;
  }
}

absl::Status Machine::SetEntry(const Vcpu& vcpu, size_t index) const {
  kvm_sregs sregs;
  if (ioctl(vcpu.fd, KVM_GET_SREGS, &sregs) != 0) return FailedOn("KVM_GET_SREGS", vcpu);
  EnterLongMode(WITNESS_PML4_GPA, &sregs);
  if (ioctl(vcpu.fd, KVM_SET_SREGS, &sregs) != 0) return FailedOn("KVM_SET_SREGS", vcpu);
  kvm_regs regs = {};
  regs.rip = WITNESS_CODE_GPA;
  regs.rflags = 2;
  regs.rdi = WITNESS_VCPUS_GPA + index * WITNESS_V_SIZE;
  regs.rsi = WITNESS_SHARED_GPA;
  if (ioctl(vcpu.fd, KVM_SET_REGS, &regs) != 0) return FailedOn("KVM_SET_REGS", vcpu);
  if (!irqchip_) return absl::OkStatus();
  kvm_lapic_state lapic;
  if (ioctl(vcpu.fd, KVM_GET_LAPIC, &lapic) != 0) return FailedOn("KVM_GET_LAPIC", vcpu);
  SetDeadlineMode(&lapic);
  if (ioctl(vcpu.fd, KVM_SET_LAPIC, &lapic) != 0) return FailedOn("KVM_SET_LAPIC", vcpu);
  return absl::OkStatus();
}

absl::Status Machine::SetPhases(const std::vector<uint64_t>& phase_ticks) {
  absl::StatusOr<uint64_t> base = GetTscOffset(vcpus_[0]);
  if (!base.ok()) return base.status();
  // KVM made the offsets one vCPU at a time and only tries to make them equal: write every one,
  // equal ones too.
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    const uint64_t wanted = *base + phase_ticks[i] - phase_ticks[0];
    if (absl::Status status = SetTscOffset(vcpus_[i], wanted); !status.ok()) return status;
    absl::StatusOr<uint64_t> kept = GetTscOffset(vcpus_[i]);
    if (!kept.ok()) return kept.status();
    if (*kept != wanted) {
      return absl::FailedPreconditionError(
          absl::StrCat("this host's KVM does not keep the TSC offset of vCPU ", vcpus_[i].id,
                       " (wrote ", wanted, ", found ", *kept,
                       "): its TSC is protected. Leave out --phase-ticks and --phase-spread, or "
                       "use another host"));
    }
  }
  return absl::OkStatus();
}

absl::Status Machine::StartFresh(const GuestSetup& setup) {
  WriteMemory(setup);
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    if (absl::Status status = SetEntry(vcpus_[i], i); !status.ok()) return status;
  }
  if (absl::Status status = SetPhases(setup.phase_ticks); !status.ok()) return status;
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    // A host's write of IA32_TSC_ADJUST does not move the TSC, so the phases stay.
    if (setup.tsc_adjust_ticks[i] == 0) continue;
    if (absl::Status status = SetMsrs(vcpus_[i], {{kMsrTscAdjust, 0, setup.tsc_adjust_ticks[i]}});
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Snapshot> Machine::Save() const {
  Snapshot snapshot;
  snapshot.record_version = WITNESS_RECORD_VERSION;
  snapshot.irqchip = irqchip_;
  for (const Vcpu& vcpu : vcpus_) {
    absl::StatusOr<VcpuSnapshot> state = SaveVcpu(vcpu, irqchip_);
    if (!state.ok()) return state.status();
    snapshot.vcpus.push_back(*std::move(state));
  }
  snapshot.memory.assign(reinterpret_cast<const char*>(memory_), WITNESS_MEMORY_SIZE);
  return snapshot;
}

absl::Status Machine::Load(const Snapshot& snapshot) {
  std::vector<uint32_t> theirs, ours;
  for (const VcpuSnapshot& vcpu : snapshot.vcpus) theirs.push_back(vcpu.id);
  for (const Vcpu& vcpu : vcpus_) ours.push_back(vcpu.id);
  if (theirs != ours) {
    return absl::FailedPreconditionError(
        absl::StrCat("the saved VM has ", theirs.size(), " vCPUs, this one ", ours.size(),
                     ", or their ids differ: start it with the same"));
  }
  if (snapshot.irqchip != irqchip_) {
    return absl::FailedPreconditionError(
        "only one of the saved VM and this one has local APICs: compare --irqchip");
  }
  std::memcpy(memory_, snapshot.memory.data(), WITNESS_MEMORY_SIZE);
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    if (absl::Status status = LoadVcpu(vcpus_[i], snapshot.vcpus[i], irqchip_); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Machine::Disturb(size_t index, int64_t ticks) {
  absl::StatusOr<uint64_t> before = GetTscOffset(vcpus_[index]);
  if (!before.ok()) return before.status();
  if (absl::Status status = SetTscOffset(vcpus_[index], *before + static_cast<uint64_t>(ticks));
      !status.ok()) {
    return status;
  }
  return GetTscOffset(vcpus_[index]);
}

void Machine::SetCheckAcross(bool on) {
  shared()->last_any_valid = 0;
  shared()->check_across = on;
}

}  // namespace tsc_handoff::witness
