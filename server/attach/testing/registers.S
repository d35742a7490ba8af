/*
 * bool spin_and_check_registers(const volatile int* stop): waits in user code until *stop is not 0,
 * with known values in all general and some vector registers, in the flags and in the red zone, and
 * says whether they are still there. rdi is `stop`, rax counts differences afterwards.
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

  .section .note.GNU-stack, "", @progbits
