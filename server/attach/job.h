/*
 * What the agent and the code that it runs inside a VMM say to each other: one job, a block of
 * memory that is written before the code runs and read after it. Both are built from this header,
 * so there is no version in it.
 *
 * Threading: the code in the VMM owns the job while it runs, but for `progress`, which the agent
 * reads and cancels through as another thread of the VMM would (client/vmm/tsc_kvm.h).
 */
#ifndef TSC_HANDOFF_SERVER_ATTACH_JOB_H_
#define TSC_HANDOFF_SERVER_ATTACH_JOB_H_

#include <stdint.h>

#include "client/vmm/tsc_kvm.h"

enum attach_job_kind {
  ATTACH_JOB_CALLS = 1,   /* `count` attach_calls follow the head */
  ATTACH_JOB_CAPTURE = 2, /* an attach_kvm_job and its tail */
  ATTACH_JOB_APPLY = 3,   /* the same */
};

struct attach_job {
  uint32_t kind;
  uint32_t count;
  struct tsc_kvm_progress progress; /* with ATTACH_JOB_CALLS, `step` counts the calls begun */
  uint32_t done;                    /* 1 when the job has come to its end */
};

/* One system call. Bit i of `relative` says that args[i] counts from the job's own address. */
struct attach_call {
  uint64_t number;
  uint64_t args[6];
  uint64_t relative;
  int64_t result;
};

/*
 * Capture or apply of one VM. `count` is the number of its vCPUs. After it follow
 *   struct tsc_kvm_vcpu vcpus[count];
 *   struct tsc_vcpu_state before[count];
 *   struct tsc_vcpu_state after[count];
 *   struct tsc_vcpu_state wanted[target.vcpu_count];
 */
struct attach_kvm_job {
  struct attach_job head;
  int32_t vm_fd;
  uint32_t reserved;
  uint64_t ops; /* 0; a test may give the address of a struct tsc_kvm_ops in the process to be used
                   instead of KVM */
  struct tsc_kvm_target target;
  struct tsc_kvm_fault fault;
  struct tsc_kvmclock kvmclock;
  struct tsc_kvmclock_result kvmclock_result;
};

#endif /* TSC_HANDOFF_SERVER_ATTACH_JOB_H_ */
