/*
 * The code that runs inside a VMM: it does a whole job and returns. Linked with tsc_kvm.c into one
 * block that runs at whatever address it is copied to, so capture and apply are the very algorithm
 * that a cooperating VMM runs.
 *
 * Freestanding: no libc, no thread-local storage, no data of its own, no relocations (payload.ld
 * refuses them), and no vector registers, because nobody saves those of the thread that it borrows.
 */
#include <stddef.h>
#include <stdint.h>
#include <x86intrin.h> /* freestanding/ */

#include "client/vmm/tsc_kvm.h"
#include "server/attach/job.h"

#define SYS_IOCTL 16

/* The compiler calls these two by itself. */
void* memset(void* to, int value, size_t bytes) {
  void* at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return to;
}

void* memcpy(void* restrict to, const void* restrict from, size_t bytes) {
  void* at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
  return to;
}

static int64_t system_call(uint64_t number, const uint64_t args[6]) {
  int64_t result;
  register uint64_t r10 __asm__("r10") = args[3];
  register uint64_t r8 __asm__("r8") = args[4];
  register uint64_t r9 __asm__("r9") = args[5];
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8),
                     "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static int kernel_ioctl(void* ctx, int fd, unsigned long request, void* arg) {
  const uint64_t args[6] = {(uint64_t)(int64_t)fd, request, (uint64_t)(uintptr_t)arg, 0, 0, 0};
  (void)ctx;
  return (int)system_call(SYS_IOCTL, args);
}

/* As tsc_kvm.h wants it: after all earlier loads, before all later instructions. */
static uint64_t read_tsc(void* ctx) {
  unsigned int cpu;
  (void)ctx;
  uint64_t tsc = __rdtscp(&cpu);
  _mm_lfence();
  return tsc;
}

static void run_calls(struct attach_job* job) {
  struct attach_call* call = (struct attach_call*)(job + 1);
  for (uint32_t i = 0; i < job->count; ++i, ++call) {
    uint64_t args[6];
    if (__atomic_load_n(&job->progress.cancel, __ATOMIC_ACQUIRE) != 0) return;
    __atomic_store_n(&job->progress.step, i + 1, __ATOMIC_RELEASE);
    for (int arg = 0; arg < 6; ++arg) {
      args[arg] = call->args[arg] + ((call->relative >> arg & 1) ? (uint64_t)(uintptr_t)job : 0);
    }
    call->result = system_call(call->number, args);
  }
}

static void run_kvm(struct attach_kvm_job* job) {
  const struct tsc_kvm_ops kernel = {kernel_ioctl, read_tsc, NULL};
  const struct tsc_kvm_ops* ops =
      job->ops == 0 ? &kernel : (const struct tsc_kvm_ops*)(uintptr_t)job->ops;
  const struct tsc_kvm_vcpu* vcpus = (const struct tsc_kvm_vcpu*)(job + 1);
  struct tsc_vcpu_state* before = (struct tsc_vcpu_state*)(vcpus + job->head.count);
  struct tsc_vcpu_state* after = before + job->head.count;
  const struct tsc_kvm_vm vm = {job->vm_fd, job->head.count, vcpus};
  if (job->head.kind == ATTACH_JOB_CAPTURE) {
    (void)tsc_kvm_capture(ops, &vm, &job->head.progress, before, &job->kvmclock, &job->fault);
  } else {
    (void)tsc_kvm_apply(ops, &vm, &job->head.progress, &job->target, after + job->head.count,
                        before, after, &job->kvmclock_result, &job->fault);
  }
}

/* payload.ld puts it first. */
__attribute__((section(".text.entry"), used)) void attach_payload(struct attach_job* job) {
  if (job->kind == ATTACH_JOB_CALLS) {
    run_calls(job);
  } else {
    run_kvm((struct attach_kvm_job*)job);
  }
  __atomic_store_n(&job->done, 1u, __ATOMIC_RELEASE);
}
