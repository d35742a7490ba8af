/*
 * KVM's TSC controls of one VM, as two operations: capture reads everything, apply writes
 * everything or nothing. tsc_kvm.c is the only file of the project that issues TSC ioctls; whoever
 * made the VM runs it in his own address space, because KVM answers every other process with EIO.
 *
 * Units: ticks are uint64_t modulo 2^64, times are ns, frequencies kHz. Structures hold fixed-width
 * fields without padding: they are also the messages between a VMM and the agent (tsc_wire.h),
 * which run on the same host.
 *
 * Threading: no global state. One VM must not be used by two calls at once; another thread may read
 * tsc_kvm_progress and call tsc_kvm_cancel meanwhile. Nothing is allocated; no libc beyond
 * memcpy and ioctl.
 */
#ifndef TSC_HANDOFF_CLIENT_VMM_TSC_KVM_H_
#define TSC_HANDOFF_CLIENT_VMM_TSC_KVM_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Limits. KVM_MAX_VCPU_IDS is 4096 on x86. */
#define TSC_KVM_MAX_VCPUS 1024u
#define TSC_KVM_MAX_VCPU_ID 4095u

/*
 * The kernel as capture and apply see it; tsc_kvm_linux_ops() is the real one. `ioctl` returns what
 * the system call returns, with -errno for failure. `rdtsc` reads the host TSC, ordered after all
 * earlier loads and before all later instructions. `ctx` is passed through.
 */
struct tsc_kvm_ops {
  int (*ioctl)(void* ctx, int fd, unsigned long request, void* arg);
  uint64_t (*rdtsc)(void* ctx);
  void* ctx;
};

const struct tsc_kvm_ops* tsc_kvm_linux_ops(void);

struct tsc_kvm_vcpu {
  uint32_t id; /* KVM_CREATE_VCPU's argument */
  int32_t fd;
};

/* Descriptors of one VM; the caller owns them. `vcpus` is sorted by strictly ascending id. */
struct tsc_kvm_vm {
  int vm_fd;
  uint32_t vcpu_count;
  const struct tsc_kvm_vcpu* vcpus;
};

/* The TSC of one vCPU. */
struct tsc_vcpu_state {
  uint32_t vcpu_id;
  uint32_t tsc_khz;            /* KVM_GET_TSC_KHZ: what was asked for, not always what runs */
  uint64_t tsc_offset_ticks;   /* KVM_VCPU_TSC_OFFSET */
  uint64_t tsc_adjust_ticks;   /* IA32_TSC_ADJUST */
  uint64_t tsc_deadline_ticks; /* IA32_TSC_DEADLINE, 0 disarmed */
};

/*
 * One KVM_GET_CLOCK, bracketed by two readings of the host TSC. With KVM_CLOCK_HOST_TSC in `flags`
 * the kernel gave pair_host_tsc_ticks for exactly the instant of kvmclock_ns, with
 * KVM_CLOCK_REALTIME pair_realtime_ns too.
 */
struct tsc_kvmclock {
  uint64_t kvmclock_ns;
  uint64_t tsc_before_ticks;
  uint64_t tsc_after_ticks;
  uint64_t pair_host_tsc_ticks;
  uint64_t pair_realtime_ns;
  uint32_t flags;
  uint32_t reserved;
};

/* Steps of capture and apply, in order: where a fault happened. */
enum tsc_kvm_step {
  TSC_STEP_NONE = 0,
  TSC_STEP_READ_OFFSET = 1,
  TSC_STEP_READ_MSRS = 2,
  TSC_STEP_READ_KHZ = 3,
  TSC_STEP_READ_KVMCLOCK = 4,
  TSC_STEP_WRITE_KHZ = 5,
  TSC_STEP_WRITE_OFFSET = 6,
  TSC_STEP_WRITE_MSRS = 7,
  TSC_STEP_VERIFY_OFFSET = 8,
  TSC_STEP_VERIFY_MSRS = 9,
  TSC_STEP_WRITE_KVMCLOCK = 10,
  TSC_STEP_VERIFY_KVMCLOCK = 11,
};

/* How an operation ended. Only TSC_KVM_OK changed the VM, and TSC_KVM_ROLLBACK_FAILED may have. */
enum tsc_kvm_outcome {
  TSC_KVM_OK = 0,
  TSC_KVM_FAILED = 1, /* an ioctl failed; everything written was restored */
  TSC_KVM_NOT_KEPT =
      2, /* the kernel accepted a value and did not keep it; everything was restored */
  TSC_KVM_ROLLBACK_FAILED = 3, /* restoring failed as well: the VM's TSCs are not to be trusted */
  TSC_KVM_CANCELLED = 4,       /* cancelled; everything written was restored */
  TSC_KVM_MISMATCH = 5,        /* the request's vCPU ids are not the VM's; nothing was written */
  TSC_KVM_RUNNING = 6,         /* the VMM says that the VM is running; nothing was touched */
  TSC_KVM_BLOCKED =
      7, /* an ioctl did not return in time: the vCPU is executing. Cancelled: nothing is written
            from here on but what restores, and that as soon as the ioctl returns */
};

/* How an operation ended and, if not well, where. */
struct tsc_kvm_fault {
  uint32_t outcome; /* enum tsc_kvm_outcome */
  uint32_t step;    /* enum tsc_kvm_step */
  uint32_t vcpu_id;
  int32_t error; /* errno of the failed ioctl, 0 if none */
  uint64_t wanted;
  uint64_t found; /* with TSC_KVM_NOT_KEPT */
};

/*
 * What an operation is doing; written by it, read by a watchdog in another thread.
 *
 * tsc_kvm_cancel ends the operation: it returns TSC_KVM_CANCELLED when the ioctl that it is in has
 * returned, with everything restored that it had written. It can be cancelled until it is complete,
 * and not after, so whoever cancels knows the outcome.
 */
struct tsc_kvm_progress {
  uint32_t step;
  uint32_t vcpu_id;
  uint32_t cancel; /* 0 in progress, 1 cancelled, 2 complete; all 0 at the start */
};

/* Returns 1 when the operation is cancelled, 0 when it is complete already. Any thread. */
int tsc_kvm_cancel(struct tsc_kvm_progress* progress);

/* Flags of tsc_kvm_target. */
#define TSC_TARGET_WRITE_KHZ 1u      /* issue KVM_SET_TSC_KHZ with each vCPU's tsc_khz */
#define TSC_TARGET_WRITE_KVMCLOCK 2u /* set kvmclock */

/*
 * Where kvmclock shall be: kvmclock_ns when the host TSC is host_tsc_ticks, on a host of
 * host_tsc_khz. The instant is in the past when it is written.
 *
 * realtime_ns is CLOCK_REALTIME at that instant: the kernel itself adds what has passed since
 * (KVM_CLOCK_REALTIME), up to the moment at which it sets the clock. With 0 it is the host TSC that
 * says how much has passed, and what KVM_SET_CLOCK takes before that moment (it signals every vCPU)
 * goes into the error. Either way reading back corrects the rest.
 */
struct tsc_kvm_target {
  uint32_t flags;
  uint32_t vcpu_count;
  uint64_t kvmclock_ns;
  uint64_t host_tsc_ticks;
  uint64_t realtime_ns; /* 0: not known */
  uint32_t host_tsc_khz;
  uint32_t reserved;
};

/* What apply did to kvmclock: error of the value read back against the target, and half the width
 * of that reading. */
struct tsc_kvmclock_result {
  int64_t error_ns;
  uint64_t read_error_ns;
  uint32_t flags;  /* of the last KVM_GET_CLOCK */
  uint32_t writes; /* how often it was written until it was near enough */
};

/*
 * Reads every vCPU's state into out[0 .. vm->vcpu_count) and kvmclock into *clock.
 * Blocks while a vCPU is inside KVM_RUN (the kernel holds its mutex); `progress` then names it.
 * Returns fault->outcome: TSC_KVM_OK, _FAILED or _CANCELLED.
 */
uint32_t tsc_kvm_capture(const struct tsc_kvm_ops* ops, const struct tsc_kvm_vm* vm,
                         struct tsc_kvm_progress* progress, struct tsc_vcpu_state* out,
                         struct tsc_kvmclock* clock, struct tsc_kvm_fault* fault);

/*
 * Writes wanted[0 .. target->vcpu_count), which must be the VM's vCPUs in ascending order of ids,
 * and reads back. before[] receives what was there, after[] what was read back; both have room for
 * vm->vcpu_count. tsc_khz of wanted[] is used with TSC_TARGET_WRITE_KHZ only.
 *
 * All or nothing: on any fault after the first write the values in before[] are restored, kvmclock
 * included. A tsc_deadline that the kernel does not keep is no fault (see Ordering in tsc_kvm.c);
 * after[] shows it. Returns fault->outcome.
 */
uint32_t tsc_kvm_apply(const struct tsc_kvm_ops* ops, const struct tsc_kvm_vm* vm,
                       struct tsc_kvm_progress* progress, const struct tsc_kvm_target* target,
                       const struct tsc_vcpu_state* wanted, struct tsc_vcpu_state* before,
                       struct tsc_vcpu_state* after, struct tsc_kvmclock_result* clock,
                       struct tsc_kvm_fault* fault);

/* What KVM on this host can do. */
struct tsc_kvm_host {
  int32_t error; /* 0, or errno of the step that failed */
  uint32_t
      failed_step;  /* 1: open /dev/kvm, 2: KVM_CREATE_VM, 3: KVM_CREATE_VCPU, 4: KVM_GET_TSC_KHZ */
  uint32_t tsc_khz; /* host frequency: what a new vCPU gets */
  uint32_t tsc_control;     /* KVM_CAP_TSC_CONTROL */
  uint32_t vcpu_attributes; /* KVM_CAP_VCPU_ATTRIBUTES */
  uint32_t adjust_clock;    /* KVM_CAP_ADJUST_CLOCK, the flags of KVM_GET_CLOCK and KVM_SET_CLOCK */
};

/*
 * Makes a VM with one vCPU through `kvm_path` (normally "/dev/kvm"), asks it, and destroys it.
 * Returns 0 or -1 with error and failed_step set.
 */
int tsc_kvm_probe_host(const char* kvm_path, struct tsc_kvm_host* out);

#ifdef __cplusplus
}
#endif

#endif /* TSC_HANDOFF_CLIENT_VMM_TSC_KVM_H_ */
