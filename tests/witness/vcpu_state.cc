#include "tests/witness/vcpu_state.h"

#include <errno.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/witness/kvm_lists.h"

namespace tsc_handoff::witness {
namespace {

// What a CPU keeps in MSRs besides SREGS. The guest touches none of them; they are moved because a
// vCPU has them. Not here: the TSC, TSC_ADJUST and TSC_DEADLINE, which are the agents' work.
constexpr uint32_t kMovedMsrs[] = {
    0x00000174,  // SYSENTER_CS
    0x00000175,  // SYSENTER_ESP
    0x00000176,  // SYSENTER_EIP
    0x00000277,  // PAT
    0xc0000081,  // STAR
    0xc0000082,  // LSTAR
    0xc0000083,  // CSTAR
    0xc0000084,  // SYSCALL_MASK
    0xc0000102,  // KERNEL_GS_BASE
};

// Registers of the local APIC in kvm_lapic_state.
constexpr size_t kApicSpuriousVector = 0xf0;
constexpr size_t kApicLvtTimer = 0x320;
constexpr uint32_t kApicEnabled = 1u << 8;
constexpr uint32_t kTimerDeadlineMode = 2u << 17;
constexpr uint32_t kTimerVector = 0x40;
constexpr uint32_t kSpuriousVector = 0xff;

absl::Status FailedOn(const char* what, const Vcpu& vcpu) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " of vCPU ", vcpu.id));
}

MsrList ListOf(const std::vector<kvm_msr_entry>& msrs) {
  MsrList list;
  list.count = static_cast<uint32_t>(std::min(msrs.size(), std::size(list.entries)));
  std::copy_n(msrs.begin(), list.count, list.entries);
  return list;
}

absl::StatusOr<std::vector<kvm_msr_entry>> GetMsrs(const Vcpu& vcpu,
                                                   const std::vector<kvm_msr_entry>& msrs) {
  MsrList list = ListOf(msrs);
  const int count = ioctl(vcpu.fd, kKvmGetMsrs, &list);
  if (count < 0) return FailedOn("KVM_GET_MSRS", vcpu);
  if (static_cast<size_t>(count) != msrs.size()) {
    return absl::NotFoundError(absl::StrFormat("KVM_GET_MSRS of vCPU %u: KVM does not know MSR %#x",
                                               vcpu.id, msrs[static_cast<size_t>(count)].index));
  }
  return std::vector<kvm_msr_entry>(list.entries, list.entries + count);
}

}  // namespace

absl::StatusOr<uint64_t> GetMsr(const Vcpu& vcpu, uint32_t index) {
  absl::StatusOr<std::vector<kvm_msr_entry>> msrs = GetMsrs(vcpu, {{index, 0, 0}});
  if (!msrs.ok()) return msrs.status();
  return msrs->front().data;
}

absl::Status SetMsrs(const Vcpu& vcpu, const std::vector<kvm_msr_entry>& msrs) {
  MsrList list = ListOf(msrs);
  const int count = ioctl(vcpu.fd, kKvmSetMsrs, &list);
  if (count < 0) return FailedOn("KVM_SET_MSRS", vcpu);
  if (static_cast<size_t>(count) != msrs.size()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("KVM_SET_MSRS of vCPU %u: KVM does not take %#x in MSR %#x", vcpu.id,
                        list.entries[count].data, list.entries[count].index));
  }
  return absl::OkStatus();
}

absl::StatusOr<VcpuSnapshot> SaveVcpu(const Vcpu& vcpu, bool irqchip) {
  VcpuSnapshot state;
  state.id = vcpu.id;
  if (ioctl(vcpu.fd, KVM_GET_MP_STATE, &state.mp_state) != 0)
    return FailedOn("KVM_GET_MP_STATE", vcpu);
  if (ioctl(vcpu.fd, KVM_GET_REGS, &state.regs) != 0) return FailedOn("KVM_GET_REGS", vcpu);
  if (ioctl(vcpu.fd, KVM_GET_SREGS, &state.sregs) != 0) return FailedOn("KVM_GET_SREGS", vcpu);
  if (ioctl(vcpu.fd, KVM_GET_VCPU_EVENTS, &state.events) != 0)
    return FailedOn("KVM_GET_VCPU_EVENTS", vcpu);
  if (irqchip && ioctl(vcpu.fd, KVM_GET_LAPIC, &state.lapic) != 0)
    return FailedOn("KVM_GET_LAPIC", vcpu);
  for (uint32_t index : kMovedMsrs) state.msrs.push_back({index, 0, 0});
  absl::StatusOr<std::vector<kvm_msr_entry>> msrs = GetMsrs(vcpu, state.msrs);
  if (!msrs.ok()) return msrs.status();
  state.msrs = *std::move(msrs);
  return state;
}

absl::Status LoadVcpu(const Vcpu& vcpu, const VcpuSnapshot& state, bool irqchip) {
  VcpuSnapshot copy = state;  // ioctl takes no const
  if (ioctl(vcpu.fd, KVM_SET_SREGS, &copy.sregs) != 0) return FailedOn("KVM_SET_SREGS", vcpu);
  if (irqchip && ioctl(vcpu.fd, KVM_SET_LAPIC, &copy.lapic) != 0)
    return FailedOn("KVM_SET_LAPIC", vcpu);
  if (ioctl(vcpu.fd, KVM_SET_REGS, &copy.regs) != 0) return FailedOn("KVM_SET_REGS", vcpu);
  if (absl::Status status = SetMsrs(vcpu, copy.msrs); !status.ok()) return status;
  if (ioctl(vcpu.fd, KVM_SET_VCPU_EVENTS, &copy.events) != 0)
    return FailedOn("KVM_SET_VCPU_EVENTS", vcpu);
  if (ioctl(vcpu.fd, KVM_SET_MP_STATE, &copy.mp_state) != 0)
    return FailedOn("KVM_SET_MP_STATE", vcpu);
  return absl::OkStatus();
}

void EnterLongMode(uint64_t pml4_gpa, kvm_sregs* sregs) {
  kvm_segment data = {};
  data.limit = 0xffffffff;
  data.selector = 0x10;
  data.type = 3;  // read, write, accessed
  data.present = 1;
  data.db = 1;
  data.s = 1;
  data.g = 1;
  kvm_segment code = data;
  code.selector = 0x08;
  code.type = 11;  // execute, read, accessed
  code.db = 0;
  code.l = 1;
  sregs->cs = code;
  sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
  // VMX enters 64-bit mode only with a busy 64-bit TSS.
  sregs->tr = {};
  sregs->tr.limit = 0x67;
  sregs->tr.type = 11;
  sregs->tr.present = 1;
  sregs->ldt = {};
  sregs->ldt.type = 2;
  sregs->ldt.unusable = 1;
  sregs->gdt = {};
  sregs->idt = {};
  sregs->cr0 = 0x80000031;  // PG NE ET PE
  sregs->cr3 = pml4_gpa;
  sregs->cr4 = 0x20;    // PAE
  sregs->efer = 0x500;  // LMA LME
}

void SetDeadlineMode(kvm_lapic_state* lapic) {
  const uint32_t spurious = kApicEnabled | kSpuriousVector;
  const uint32_t timer = kTimerDeadlineMode | kTimerVector;
  std::memcpy(lapic->regs + kApicSpuriousVector, &spurious, sizeof spurious);
  std::memcpy(lapic->regs + kApicLvtTimer, &timer, sizeof timer);
}

std::string DescribeRegisters(const Vcpu& vcpu) {
  kvm_regs regs;
  kvm_sregs sregs;
  if (ioctl(vcpu.fd, KVM_GET_REGS, &regs) != 0 || ioctl(vcpu.fd, KVM_GET_SREGS, &sregs) != 0) {
    return absl::StrCat("registers unreadable: ", std::strerror(errno));
  }
  return absl::StrFormat(
      "rip %#x rflags %#x rax %#x rbx %#x rcx %#x rdx %#x rsi %#x rdi %#x r8 %#x r9 %#x r10 %#x "
      "cr0 %#x cr2 %#x cr3 %#x cr4 %#x efer %#x cs %#x",
      regs.rip, regs.rflags, regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.r8,
      regs.r9, regs.r10, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer, sregs.cs.selector);
}

}  // namespace tsc_handoff::witness
