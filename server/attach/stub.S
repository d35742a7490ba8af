/*
 * The first and the last code that a borrowed thread runs: it makes the scratch memory, runs the
 * payload there, removes the memory, and puts the thread back where it was. stub_layout.h describes
 * the block at its start; the tracer fills it in.
 *
 * It reports to its tracer by sending itself a signal that the process ignores. Under a tracer that
 * is a stop; when the tracer has died it is nothing, and the stub goes on by itself to the very
 * end: memory removed, signal mask and all registers restored. So there is no instruction in it at
 * which a tracer's death does harm.
 *
 * It uses no stack until the payload has one: below the thread's stack pointer is the thread's red
 * zone. It writes nothing but the scratch memory. rbx holds that, r13 whether the tracer has said
 * go. Wherever signals may come (the tracer may have restored the mask and died), the stack pointer
 * is the thread's own.
 */
#define SYS_MMAP 9
#define SYS_MPROTECT 10
#define SYS_MUNMAP 11
#define SYS_RT_SIGPROCMASK 14
#define SYS_TGKILL 234
#define SIG_SETMASK 2
#define PROT_READ_WRITE 3
#define PROT_READ_EXEC 5
#define MAP_PRIVATE_ANONYMOUS 0x22
#define LAST_ADDRESS -4096 /* above it are error numbers */

.macro report
  mov $SYS_TGKILL, %eax
  mov tgid(%rip), %edi
  mov tid(%rip), %esi
  mov signal(%rip), %edx
  syscall
.endm

.macro set_mask mask
  mov $SYS_RT_SIGPROCMASK, %eax
  mov $SIG_SETMASK, %edi
  lea \mask(%rip), %rsi
  mov $0, %edx /* not xor: the flags are the thread's at the end */
  mov $8, %r10d
  syscall
.endm

  .section .text, "ax"
  .globl stub
stub:
  .ascii "TSCSTUB1"
  .long entry - stub, mapped - stub, ran - stub, unmapped - stub
map_bytes: .quad 0
code_bytes: .quad 0
tgid: .long 0
tid: .long 0
signal: .long 0, 0
mask_during: .quad 0
mask_after: .quad 0
flags: .quad 0
rax_after: .quad 0
rbx_after: .quad 0
rcx_after: .quad 0
rdx_after: .quad 0
rsi_after: .quad 0
rdi_after: .quad 0
rbp_after: .quad 0
rsp_after: .quad 0
r8_after: .quad 0
r9_after: .quad 0
r10_after: .quad 0
r11_after: .quad 0
r12_after: .quad 0
r13_after: .quad 0
r14_after: .quad 0
r15_after: .quad 0
rip_after: .quad 0

entry:
  cld
  set_mask mask_during
  mov $SYS_MMAP, %eax
  xor %edi, %edi
  mov map_bytes(%rip), %rsi
  mov $PROT_READ_WRITE, %edx
  mov $MAP_PRIVATE_ANONYMOUS, %r10d
  mov $-1, %r8
  xor %r9d, %r9d
  syscall
  mov %rax, %rbx
  xor %r13d, %r13d
  report
mapped: /* the tracer has written payload and job, and set r13 */
  test %r13, %r13
  jz unmap
  mov $SYS_MPROTECT, %eax
  mov %rbx, %rdi
  mov code_bytes(%rip), %rsi
  mov $PROT_READ_EXEC, %edx
  syscall
  test %rax, %rax
  jnz unmap
  mov %rbx, %rsp
  add map_bytes(%rip), %rsp
  mov %rbx, %rdi
  add code_bytes(%rip), %rdi
  call *%rbx
  report
ran: /* the tracer has read the job */
unmap:
  cmp $LAST_ADDRESS, %rbx
  ja 1f
  mov $SYS_MUNMAP, %eax
  mov %rbx, %rdi
  mov map_bytes(%rip), %rsi
  syscall
1:
  mov rsp_after(%rip), %rsp
  report
unmapped: /* the tracer restores the thread itself, and what follows never runs */
  set_mask mask_during /* the tracer may have restored the mask and died */
  lea flags(%rip), %rsp
  popfq /* reads only */
  mov rsp_after(%rip), %rsp /* before signals can come, which need a stack */
  set_mask mask_after
  mov rax_after(%rip), %rax
  mov rbx_after(%rip), %rbx
  mov rcx_after(%rip), %rcx
  mov rdx_after(%rip), %rdx
  mov rsi_after(%rip), %rsi
  mov rdi_after(%rip), %rdi
  mov rbp_after(%rip), %rbp
  mov r8_after(%rip), %r8
  mov r9_after(%rip), %r9
  mov r10_after(%rip), %r10
  mov r11_after(%rip), %r11
  mov r12_after(%rip), %r12
  mov r13_after(%rip), %r13
  mov r14_after(%rip), %r14
  mov r15_after(%rip), %r15
  jmp *rip_after(%rip)

  .section .note.GNU-stack, "", @progbits
