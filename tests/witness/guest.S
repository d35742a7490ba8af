/*
 * The witness guest: every vCPU runs this loop in 64-bit mode, ring 0, interrupts off, without a stack. It believes
 * nothing but its own RDTSC and RDMSR, and writes what it sees into the record (record.h).
 *
 * In:   rdi = this vCPU's WitnessVcpu, rsi = WitnessShared; both set by the VMM before the first run.
 * Uses: r8 = rounds left until the next beat; rax rbx rcx rdx r9 r10 are scratch.
 *
 * An exception would find no IDT and end in a shutdown exit, which the VMM reports with the registers.
 */
#include "tests/witness/record.h"

#define MSR_TSC_ADJUST 0x3b
#define MSR_TSC_DEADLINE 0x6e0

.intel_syntax noprefix
.section .rodata.witness_guest, "a", @progbits
.globl witness_guest_begin
.globl witness_guest_end
.code64
.balign 16
witness_guest_begin:
    // CPUID leaf 7, EBX bit 1: TSC_ADJUST.
    mov eax, 7
    xor ecx, ecx
    cpuid
    shr ebx, 1
    and ebx, 1
    mov [rdi + WITNESS_V_HAS_ADJUST], ebx

.Lbeat:
    cmp dword ptr [rdi + WITNESS_V_HAS_ADJUST], 0
    je .Ldeadline
    mov ecx, MSR_TSC_ADJUST
    rdmsr
    shl rdx, 32
    or rax, rdx
    mov [rdi + WITNESS_V_TSC_ADJUST], rax
    inc qword ptr [rdi + WITNESS_V_ADJUST_READS]

.Ldeadline:
    cmp qword ptr [rdi + WITNESS_V_DEADLINE_PERIOD], 0
    je .Lsay_alive
    // The MSR reads 0 once the timer has fired; the interrupt itself stays pending, because interrupts are off.
    mov ecx, MSR_TSC_DEADLINE
    rdmsr
    or eax, edx
    jnz .Lsay_alive
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r9, rax
    cmp qword ptr [rdi + WITNESS_V_DEADLINE_ARMED], 0
    je .Larm
    mov r10, r9
    sub r10, [rdi + WITNESS_V_DEADLINE_ARMED]
    js .Learly
    inc qword ptr [rdi + WITNESS_V_DEADLINE_FIRES]
    cmp r10, [rdi + WITNESS_V_DEADLINE_LATE_LARGEST]
    jbe .Larm
    mov [rdi + WITNESS_V_DEADLINE_LATE_LARGEST], r10
    jmp .Larm
.Learly:
    neg r10
    inc qword ptr [rdi + WITNESS_V_DEADLINE_EARLY]
    cmp r10, [rdi + WITNESS_V_DEADLINE_EARLY_LARGEST]
    jbe .Larm
    mov [rdi + WITNESS_V_DEADLINE_EARLY_LARGEST], r10
.Larm:
    add r9, [rdi + WITNESS_V_DEADLINE_PERIOD]
    mov [rdi + WITNESS_V_DEADLINE_ARMED], r9
    mov rax, r9
    mov rdx, r9
    shr rdx, 32
    wrmsr

.Lsay_alive:
    mov edx, WITNESS_PORT_BEAT
    out dx, eax
    mov r8d, WITNESS_BEAT_ROUNDS

.Lround:
    mov ecx, WITNESS_LOCK_ATTEMPTS
.Ltry:
    mov eax, 1
    xchg eax, [rsi + WITNESS_S_LOCK]
    test eax, eax
    jz .Llocked
.Lspin:
    pause
    dec ecx
    jz .Lyield
    cmp dword ptr [rsi + WITNESS_S_LOCK], 0
    jne .Lspin
    jmp .Ltry
.Lyield:
    inc qword ptr [rdi + WITNESS_V_YIELDS]
    mov edx, WITNESS_PORT_YIELD
    out dx, eax
    jmp .Lround

.Llocked:
    // As the kernel's rdtsc_ordered(): not before the lock was taken.
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx

    // This vCPU against itself, always. Differences are modulo 2^64: the sign says which way.
    cmp qword ptr [rdi + WITNESS_V_ITERATIONS], 0
    je .Lown_done
    mov rdx, rax
    sub rdx, [rdi + WITNESS_V_LAST_TSC]
    js .Lbackward
    cmp rdx, [rdi + WITNESS_V_FORWARD_LARGEST]
    jbe .Lown_done
    mov [rdi + WITNESS_V_FORWARD_LARGEST], rdx
    jmp .Lown_done
.Lbackward:
    neg rdx
    inc qword ptr [rdi + WITNESS_V_BACKWARD_STEPS]
    cmp rdx, [rdi + WITNESS_V_BACKWARD_LARGEST]
    jbe .Lown_done
    mov [rdi + WITNESS_V_BACKWARD_LARGEST], rdx
.Lown_done:
    mov [rdi + WITNESS_V_LAST_TSC], rax
    inc qword ptr [rdi + WITNESS_V_ITERATIONS]

    // Against whichever vCPU held the lock before, as the kernel's check_tsc_warp(), with the known phase taken out.
    cmp dword ptr [rsi + WITNESS_S_CHECK_ACROSS], 0
    je .Lunlock
    sub rax, [rdi + WITNESS_V_PHASE]
    cmp dword ptr [rsi + WITNESS_S_LAST_ANY_VALID], 0
    je .Lacross_done
    mov rdx, rax
    sub rdx, [rsi + WITNESS_S_LAST_ANY]
    jns .Lacross_done
    neg rdx
    inc qword ptr [rdi + WITNESS_V_WARPS]
    cmp rdx, [rdi + WITNESS_V_WARP_LARGEST]
    jbe .Lacross_done
    mov [rdi + WITNESS_V_WARP_LARGEST], rdx
.Lacross_done:
    mov [rsi + WITNESS_S_LAST_ANY], rax
    mov dword ptr [rsi + WITNESS_S_LAST_ANY_VALID], 1

.Lunlock:
    mov dword ptr [rsi + WITNESS_S_LOCK], 0
    dec r8d
    jnz .Lround
    jmp .Lbeat
witness_guest_end:

.section .note.GNU-stack, "", @progbits
