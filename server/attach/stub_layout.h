// The block at the beginning of stub.S, as its tracer fills it in, and what a thread's registers
// have to be when it is put back without its tracer.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_ATTACH_STUB_LAYOUT_H_
#define TSC_HANDOFF_SERVER_ATTACH_STUB_LAYOUT_H_

#include <sys/user.h>

#include <cstddef>
#include <cstdint>

namespace tsc_handoff::attach {

// orig_rax of a thread that is in no system call.
inline constexpr uint64_t kNoSyscall = ~uint64_t{0};

struct StubHeader {
  char magic[8];
  // Where the stub begins, and where it stands when it has reported; from the start of the stub.
  uint32_t entry_offset;
  uint32_t mapped_offset;
  uint32_t ran_offset;
  uint32_t unmapped_offset;
  // From here on the tracer's.
  uint64_t map_bytes;   // of the scratch memory, whole pages: code, job, stack
  uint64_t code_bytes;  // of these the first ones, whole pages: the job comes after them
  uint32_t tgid;        // the thread's, as its own PID namespace counts
  uint32_t tid;
  uint32_t signal;  // which the process ignores
  uint32_t reserved;
  uint64_t mask_during;
  uint64_t mask_after;
  uint64_t flags;
  uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip;
};
static_assert(sizeof(StubHeader) == 216);
static_assert(offsetof(StubHeader, map_bytes) == 24 && offsetof(StubHeader, mask_during) == 56);

// The registers with which a stopped thread goes on where it was, exactly as the kernel would have
// it. A system call that the stop has interrupted is begun anew, and one that was to be restarted
// by its remaining time is, because the kernel keeps that and nothing here disturbs it.
//
// `no_signal_pending`: the thread's stop is the only thing that can have interrupted the call. Some
// calls (epoll_wait) then answer EINTR, which they never would have without us. One that waits
// without a limit is begun anew too; one with a limit is left with its EINTR, as after SIGSTOP and
// SIGCONT, because nobody knows what is left of its time.
user_regs_struct RegistersToRestore(user_regs_struct stopped, bool no_signal_pending);
// Whether that depends on pending signals at all; if not, the registers are to be restored as they
// are.
bool MayAnswerEintr(const user_regs_struct& stopped);

// The same, for a thread that gets there by itself and not through the kernel: system calls that
// are to be restarted stand at their instruction again.
user_regs_struct RegistersToJumpTo(user_regs_struct restored);

// Fills in the registers of `header`.
void SetRegisters(const user_regs_struct& regs, StubHeader& header);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_STUB_LAYOUT_H_
