#include "server/attach/stub_layout.h"

#include <sys/syscall.h>

#include <cerrno>

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t kSyscallBytes = 2;  // 0f 05
// The kernel's own, <linux/errno.h>: what a system call answers to be restarted.
constexpr int64_t kERestartSys = 512;
constexpr int64_t kERestartNoIntr = 513;
constexpr int64_t kERestartNoHand = 514;
constexpr int64_t kERestartBlock = 516;

bool WaitsWithoutLimit(const user_regs_struct& regs) {
  switch (regs.orig_rax) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return static_cast<int32_t>(regs.r10) < 0;
    case SYS_epoll_pwait2:
    case SYS_rt_sigtimedwait:
    case SYS_semtimedop:
      return (regs.orig_rax == SYS_rt_sigtimedwait ? regs.rdx : regs.r10) == 0;
    case SYS_semop:
    case SYS_msgrcv:
    case SYS_msgsnd:
      return true;
    case SYS_io_getevents:
      return regs.r8 == 0;
    default:
      return false;
  }
}

}  // namespace

bool MayAnswerEintr(const user_regs_struct& stopped) {
  return stopped.orig_rax != kNoSyscall && static_cast<int64_t>(stopped.rax) == -EINTR &&
         WaitsWithoutLimit(stopped);
}

user_regs_struct RegistersToRestore(user_regs_struct stopped, bool no_signal_pending) {
  if (no_signal_pending && MayAnswerEintr(stopped)) {
    stopped.rax = stopped.orig_rax;
    stopped.rip -= kSyscallBytes;
    stopped.orig_rax = kNoSyscall;
  }
  return stopped;
}

user_regs_struct RegistersToJumpTo(user_regs_struct restored) {
  if (restored.orig_rax == kNoSyscall) return restored;
  switch (-static_cast<int64_t>(restored.rax)) {
    case kERestartSys:
    case kERestartNoIntr:
    case kERestartNoHand:
      restored.rax = restored.orig_rax;
      restored.rip -= kSyscallBytes;
      break;
    case kERestartBlock:
      restored.rax = SYS_restart_syscall;
      restored.rip -= kSyscallBytes;
      break;
    default:
      break;
  }
  restored.orig_rax = kNoSyscall;
  return restored;
}

void SetRegisters(const user_regs_struct& regs, StubHeader& header) {
  header.flags = regs.eflags;
  header.rax = regs.rax;
  header.rbx = regs.rbx;
  header.rcx = regs.rcx;
  header.rdx = regs.rdx;
  header.rsi = regs.rsi;
  header.rdi = regs.rdi;
  header.rbp = regs.rbp;
  header.rsp = regs.rsp;
  header.r8 = regs.r8;
  header.r9 = regs.r9;
  header.r10 = regs.r10;
  header.r11 = regs.r11;
  header.r12 = regs.r12;
  header.r13 = regs.r13;
  header.r14 = regs.r14;
  header.r15 = regs.r15;
  header.rip = regs.rip;
}

}  // namespace tsc_handoff::attach
