/*
 * Two ways to wait that find out whether a register has changed meanwhile.
 *
 * bool spin_and_check_registers(const volatile int* stop): waits in user code until *stop is not 0,
 * with known values in all general and some vector registers, in the flags and in the red zone, and
 * says whether they are still there. rdi is `stop`, rax counts differences afterwards.
 *
 * long syscall_and_check_registers(const long call[7], long* result): makes a system call with its
 * number and arguments in `call`, and returns how many registers it has changed, of those that a
 * system call leaves alone: all but rax, rcx and r11. Vector registers, x87 and MXCSR included.
 */
.macro each_general do
  \do rbx, 0x1b1b1b1b
  \do rcx, 0x1c1c1c1c
  \do rdx, 0x1d1d1d1d
  \do rsi, 0x16161616
  \do rbp, 0x1f1f1f1f
  \do r8, 0x18181818
  \do r9, 0x19191919
  \do r10, 0x20202020
  \do r11, 0x21212121
  \do r12, 0x22222222
  \do r13, 0x23232323
  \do r14, 0x24242424
  \do r15, 0x25252525
.endm
.macro load register, value
  mov $\value, %\register
.endm
.macro check register, value
  cmp $\value, %\register
  je 1f
  inc %rax
1:
.endm

  .section .text, "ax"
  .globl spin_and_check_registers
spin_and_check_registers:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov $0x5a5a5a5a, %eax
  movq %rax, %xmm0
  movq %rax, %xmm7
  movq %rax, %xmm15
  movq $0x7777, -8(%rsp)
  movq $0x6666, -128(%rsp)
  each_general load
  xor %eax, %eax
  std
  stc
0:
  pause
  mov (%rdi), %eax /* leaves the flags */
  jnc 2f /* the carry has to stay set */
  xchg %rcx, %rax
  jrcxz 3f
  xchg %rcx, %rax
  jmp 4f
3:
  xchg %rcx, %rax
  jmp 0b
2:
  mov $100, %eax
4:
  cmp $100, %eax
  mov $0, %eax
  jne 5f
  inc %rax
5:
  each_general check
  pushfq
  pop %rcx
  test $0x400, %ecx /* the direction flag */
  jnz 6f
  inc %rax
6:
  cld
  movq %xmm0, %rcx
  cmp $0x5a5a5a5a, %rcx
  je 7f
  inc %rax
7:
  movq %xmm7, %rcx
  cmp $0x5a5a5a5a, %rcx
  je 8f
  inc %rax
8:
  movq %xmm15, %rcx
  cmp $0x5a5a5a5a, %rcx
  je 9f
  inc %rax
9:
  cmpq $0x6666, -128(%rsp)
  je 10f
  inc %rax
10:
  test %rax, %rax
  sete %al
  movzbl %al, %eax
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

.macro vector number
  mov $0x5151515151510000 + \number, %rax
  movq %rax, %xmm\number
  pshufd $0x4e, %xmm\number, %xmm\number /* into the upper half, too */
  movq %rax, %xmm15
  por %xmm15, %xmm\number
.endm
.macro check_vector number
  mov $0x5151515151510000 + \number, %rcx
  movq %xmm\number, %rax
  cmp %rcx, %rax
  jne 1f
  pshufd $0x4e, %xmm\number, %xmm\number
  movq %xmm\number, %rax
  cmp %rcx, %rax
  je 2f
1:
  incq 8(%rsp)
2:
.endm
.macro check_argument register, index
  cmp 8*\index(%rcx), %\register
  je 1f
  incq 8(%rsp)
1:
.endm
.macro check_saved register, value
  cmp $\value, %\register
  je 1f
  incq 8(%rsp)
1:
.endm

  .globl syscall_and_check_registers
syscall_and_check_registers:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  push %rsi /* 16(%rsp): where the result goes */
  push $0   /* 8(%rsp): differences */
  push %rdi /* 0(%rsp): the call */
  stmxcsr -8(%rsp)
  mov -8(%rsp), %eax
  or $0x8040, %eax /* flush to zero, denormals are zeros */
  mov %eax, -16(%rsp)
  ldmxcsr -16(%rsp)
  fldpi
  vector 0
  vector 6
  vector 14
  mov $0x1b1b1b1b, %ebx
  mov $0x1f1f1f1f, %ebp
  mov $0x22222222, %r12d
  mov $0x23232323, %r13d
  mov $0x24242424, %r14d
  mov $0x25252525, %r15d
  mov (%rsp), %rcx
  mov 0(%rcx), %rax
  mov 8(%rcx), %rdi
  mov 16(%rcx), %rsi
  mov 24(%rcx), %rdx
  mov 32(%rcx), %r10
  mov 40(%rcx), %r8
  mov 48(%rcx), %r9
  stc
  syscall
  jc 3f /* flags come back from r11 */
  incq 8(%rsp)
3:
  mov 16(%rsp), %rcx
  mov %rax, (%rcx)
  mov (%rsp), %rcx
  check_argument rdi, 1
  check_argument rsi, 2
  check_argument rdx, 3
  check_argument r10, 4
  check_argument r8, 5
  check_argument r9, 6
  check_saved rbx, 0x1b1b1b1b
  check_saved rbp, 0x1f1f1f1f
  check_saved r12, 0x22222222
  check_saved r13, 0x23232323
  check_saved r14, 0x24242424
  check_saved r15, 0x25252525
  check_vector 0
  check_vector 6
  check_vector 14
  stmxcsr -12(%rsp)
  mov -12(%rsp), %eax
  cmp %eax, -16(%rsp)
  je 4f
  incq 8(%rsp)
4:
  ldmxcsr -8(%rsp)
  fldpi
  fucomip %st(1), %st
  fstp %st(0)
  jnp 5f
  incq 8(%rsp)
  jmp 6f
5:
  je 6f
  incq 8(%rsp)
6:
  pop %rdi
  pop %rax
  pop %rsi
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

  .section .note.GNU-stack, "", @progbits
