/*
 * See tsc_kvm.h. Two operations, each a straight run through all vCPUs.
 *
 * Ordering of apply, and why:
 *   1. Read everything first. It is what a rollback restores, and a vCPU that is executing blocks
 * here, where nothing has been written yet.
 *   2. KVM_SET_TSC_KHZ before the offset: it changes the scaling ratio, on which the offset was
 * computed.
 *   3. Offset before the MSRs: IA32_TSC_DEADLINE is compared with the guest's TSC when it is
 * written, so under the old offset the timer would be armed for the wrong moment. A host's write of
 * IA32_TSC_ADJUST does not move the TSC.
 *   4. All offsets before all MSRs: the phase between vCPUs is complete as early as possible.
 *   5. Read back all, by the same ioctls: a protected vCPU accepts an offset and keeps its own.
 *   6. kvmclock last: writing offsets makes KVM reconsider the master clock, on which kvmclock
 * rests.
 *
 * A deadline that reads back as 0 is no fault: the timer may have fired, or the local APIC is not
 * in TSC-deadline mode yet and KVM ignored the write. The caller sees it in after[].
 */
#include "client/vmm/tsc_kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#define MSR_IA32_TSC_ADJUST 0x3bu
#define MSR_IA32_TSC_DEADLINE 0x6e0u

/* kvmclock is written again until it reads back this near to the target, in addition to the
 * reading's own error. */
#define KVMCLOCK_TOLERANCE_NS 200
#define KVMCLOCK_MAX_WRITES 8
/* Readings per verification; the one with the narrowest bracket counts. */
#define KVMCLOCK_READINGS 3
/* Readings of what was there before: one, unless its bracket is wider than some 20 us. */
#define KVMCLOCK_MAX_READINGS 8
#define KVMCLOCK_SHARP_TICKS 50000
/* Further off than this after all attempts, the kernel did not keep what it was given. */
#define KVMCLOCK_MAX_ERROR_NS 100000

/* What the steps of one operation share. */
struct operation {
  const struct tsc_kvm_ops* ops;
  const struct tsc_kvm_vm* vm;
  struct tsc_kvm_progress* progress;
  struct tsc_kvm_fault* fault;
};

/* The two MSRs, always moved together: one system call less per vCPU. */
struct msr_pair {
  struct kvm_msrs head;
  struct kvm_msr_entry entries[2];
};

static int linux_ioctl(void* ctx, int fd, unsigned long request, void* arg) {
  (void)ctx;
  int result = ioctl(fd, request, arg);
  return result < 0 ? -errno : result;
}

static uint64_t linux_rdtsc(void* ctx) {
  (void)ctx;
  /* RDTSCP waits for earlier instructions, the LFENCE keeps later ones from starting before it. */
  unsigned int cpu;
  uint64_t tsc = __rdtscp(&cpu);
  _mm_lfence();
  return tsc;
}

const struct tsc_kvm_ops* tsc_kvm_linux_ops(void) {
  static const struct tsc_kvm_ops ops = {linux_ioctl, linux_rdtsc, NULL};
  return &ops;
}

static int fail(const struct operation* op, uint32_t outcome, int error) {
  op->fault->outcome = outcome;
  op->fault->step = op->progress->step;
  op->fault->vcpu_id = op->progress->vcpu_id;
  op->fault->error = error;
  return -1;
}

static int not_kept(const struct operation* op, uint64_t wanted, uint64_t found) {
  op->fault->wanted = wanted;
  op->fault->found = found;
  return fail(op, TSC_KVM_NOT_KEPT, 0);
}

static void enter(const struct operation* op, enum tsc_kvm_step step, uint32_t vcpu_id) {
  __atomic_store_n(&op->progress->vcpu_id, vcpu_id, __ATOMIC_RELAXED);
  __atomic_store_n(&op->progress->step, (uint32_t)step, __ATOMIC_RELEASE);
}

enum { IN_PROGRESS = 0, CANCELLED = 1, COMPLETE = 2 };

static int cancelled(const struct operation* op) {
  return __atomic_load_n(&op->progress->cancel, __ATOMIC_ACQUIRE) == CANCELLED;
}

/* Moves the progress on from IN_PROGRESS; returns where it is then. Who comes second has lost. */
static uint32_t settle(struct tsc_kvm_progress* progress, uint32_t wanted) {
  uint32_t found = IN_PROGRESS;
  return __atomic_compare_exchange_n(&progress->cancel, &found, wanted, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)
             ? wanted
             : found;
}

int tsc_kvm_cancel(struct tsc_kvm_progress* progress) {
  return settle(progress, CANCELLED) == CANCELLED;
}

/* Issues an ioctl that answers `expected` on success. KVM_GET_MSRS and KVM_SET_MSRS answer how many
 * they did. */
static int issue(const struct operation* op, int fd, unsigned long request, void* arg,
                 int expected) {
  int result = op->ops->ioctl(op->ops->ctx, fd, request, arg);
  if (result < 0) return fail(op, TSC_KVM_FAILED, -result);
  if (result != expected) return fail(op, TSC_KVM_FAILED, EOPNOTSUPP);
  return 0;
}

static int access_offset(const struct operation* op, uint32_t i, unsigned long request,
                         uint64_t* offset) {
  struct kvm_device_attr attr = {
      .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)(uintptr_t)offset};
  return issue(op, op->vm->vcpus[i].fd, request, &attr, 0);
}

static int read_offset(const struct operation* op, uint32_t i, uint64_t* offset) {
  return access_offset(op, i, KVM_GET_DEVICE_ATTR, offset);
}

static int write_offset(const struct operation* op, uint32_t i, uint64_t offset) {
  return access_offset(op, i, KVM_SET_DEVICE_ATTR, &offset);
}

static int read_msrs(const struct operation* op, uint32_t i, struct tsc_vcpu_state* out) {
  struct msr_pair msrs;
  memset(&msrs, 0, sizeof(msrs));
  msrs.head.nmsrs = 2;
  msrs.entries[0].index = MSR_IA32_TSC_ADJUST;
  msrs.entries[1].index = MSR_IA32_TSC_DEADLINE;
  if (issue(op, op->vm->vcpus[i].fd, KVM_GET_MSRS, &msrs, 2) != 0) return -1;
  out->tsc_adjust_ticks = msrs.entries[0].data;
  out->tsc_deadline_ticks = msrs.entries[1].data;
  return 0;
}

static int write_msrs(const struct operation* op, uint32_t i, const struct tsc_vcpu_state* from) {
  struct msr_pair msrs;
  memset(&msrs, 0, sizeof(msrs));
  msrs.head.nmsrs = 2;
  msrs.entries[0].index = MSR_IA32_TSC_ADJUST;
  msrs.entries[0].data = from->tsc_adjust_ticks;
  msrs.entries[1].index = MSR_IA32_TSC_DEADLINE;
  msrs.entries[1].data = from->tsc_deadline_ticks;
  return issue(op, op->vm->vcpus[i].fd, KVM_SET_MSRS, &msrs, 2);
}

/* KVM_GET_TSC_KHZ answers the frequency itself. */
static int read_khz(const struct operation* op, uint32_t i, uint32_t* khz) {
  int result = op->ops->ioctl(op->ops->ctx, op->vm->vcpus[i].fd, KVM_GET_TSC_KHZ, NULL);
  if (result <= 0) return fail(op, TSC_KVM_FAILED, result < 0 ? -result : EOPNOTSUPP);
  *khz = (uint32_t)result;
  return 0;
}

static int write_khz(const struct operation* op, uint32_t i, uint32_t khz) {
  return issue(op, op->vm->vcpus[i].fd, KVM_SET_TSC_KHZ, (void*)(uintptr_t)khz, 0);
}

static int read_vcpu(const struct operation* op, uint32_t i, struct tsc_vcpu_state* out) {
  memset(out, 0, sizeof(*out));
  out->vcpu_id = op->vm->vcpus[i].id;
  enter(op, TSC_STEP_READ_OFFSET, out->vcpu_id);
  if (read_offset(op, i, &out->tsc_offset_ticks) != 0) return -1;
  enter(op, TSC_STEP_READ_MSRS, out->vcpu_id);
  if (read_msrs(op, i, out) != 0) return -1;
  enter(op, TSC_STEP_READ_KHZ, out->vcpu_id);
  return read_khz(op, i, &out->tsc_khz);
}

static int read_kvmclock(const struct operation* op, struct tsc_kvmclock* out) {
  struct kvm_clock_data data;
  memset(&data, 0, sizeof(data));
  out->reserved = 0;
  out->tsc_before_ticks = op->ops->rdtsc(op->ops->ctx);
  if (issue(op, op->vm->vm_fd, KVM_GET_CLOCK, &data, 0) != 0) return -1;
  out->tsc_after_ticks = op->ops->rdtsc(op->ops->ctx);
  out->kvmclock_ns = data.clock;
  out->flags = data.flags;
  out->pair_host_tsc_ticks = (data.flags & KVM_CLOCK_HOST_TSC) ? data.host_tsc : 0;
  out->pair_realtime_ns = (data.flags & KVM_CLOCK_REALTIME) ? data.realtime : 0;
  return 0;
}

/*
 * Reads kvmclock again while the bracket around it is wide and the kernel gave no pair: a rollback
 * goes back to this reading, and a preemption in the middle of it would make that milliseconds off.
 * Keeps the narrowest.
 */
static int read_kvmclock_sharply(const struct operation* op, struct tsc_kvmclock* out) {
  for (int reading = 0; reading < KVMCLOCK_MAX_READINGS; ++reading) {
    struct tsc_kvmclock now;
    if (read_kvmclock(op, &now) != 0) return -1;
    uint64_t width = now.tsc_after_ticks - now.tsc_before_ticks;
    if (reading == 0 || width < out->tsc_after_ticks - out->tsc_before_ticks) *out = now;
    if ((now.flags & KVM_CLOCK_HOST_TSC) || width < KVMCLOCK_SHARP_TICKS) break;
  }
  return 0;
}

static int read_all(const struct operation* op, struct tsc_vcpu_state* out,
                    struct tsc_kvmclock* clock) {
  for (uint32_t i = 0; i < op->vm->vcpu_count; ++i) {
    if (cancelled(op)) return fail(op, TSC_KVM_CANCELLED, 0);
    if (read_vcpu(op, i, &out[i]) != 0) return -1;
  }
  enter(op, TSC_STEP_READ_KVMCLOCK, 0);
  return read_kvmclock_sharply(op, clock);
}

static struct operation begin(const struct tsc_kvm_ops* ops, const struct tsc_kvm_vm* vm,
                              struct tsc_kvm_progress* progress, struct tsc_kvm_fault* fault) {
  memset(fault, 0, sizeof(*fault));
  struct operation op = {ops, vm, progress, fault};
  return op;
}

uint32_t tsc_kvm_capture(const struct tsc_kvm_ops* ops, const struct tsc_kvm_vm* vm,
                         struct tsc_kvm_progress* progress, struct tsc_vcpu_state* out,
                         struct tsc_kvmclock* clock, struct tsc_kvm_fault* fault) {
  struct operation op = begin(ops, vm, progress, fault);
  (void)read_all(&op, out, clock);
  enter(&op, TSC_STEP_NONE, 0);
  return fault->outcome;
}

/* ---- kvmclock ---- */

static int64_t ticks_to_ns(int64_t ticks, uint32_t khz) {
  return (int64_t)((__int128)ticks * 1000000 / khz);
}

/* Where the target wants kvmclock at host TSC `tsc`. */
static uint64_t kvmclock_target_at(const struct tsc_kvm_target* target, uint64_t tsc) {
  int64_t passed = (int64_t)(tsc - target->host_tsc_ticks);
  return target->kvmclock_ns + (uint64_t)ticks_to_ns(passed, target->host_tsc_khz);
}

static int64_t magnitude(int64_t value) { return value < 0 ? -value : value; }

/* Reads kvmclock several times and rates the sharpest reading against the target. */
static int verify_kvmclock(const struct operation* op, const struct tsc_kvm_target* target,
                           struct tsc_kvmclock_result* out) {
  for (int reading = 0; reading < KVMCLOCK_READINGS; ++reading) {
    struct tsc_kvmclock clock;
    if (read_kvmclock(op, &clock) != 0) return -1;
    uint64_t width = clock.tsc_after_ticks - clock.tsc_before_ticks;
    uint64_t at = clock.tsc_before_ticks + width / 2;
    uint64_t error = (uint64_t)ticks_to_ns((int64_t)(width / 2), target->host_tsc_khz) + 1;
    if (clock.flags & KVM_CLOCK_HOST_TSC) { /* the kernel's own pair has no width */
      at = clock.pair_host_tsc_ticks;
      error = 1;
    }
    if (reading == 0 || error < out->read_error_ns) {
      out->read_error_ns = error;
      out->error_ns = (int64_t)(clock.kvmclock_ns - kvmclock_target_at(target, at));
      out->flags = clock.flags;
    }
    if (error == 1) break;
  }
  return 0;
}

/* Fills in what KVM_SET_CLOCK needs to bring kvmclock onto the target. */
static void aim_kvmclock(const struct operation* op, const struct tsc_kvm_target* target,
                         int64_t aim_ns, struct kvm_clock_data* data) {
  memset(data, 0, sizeof(*data));
  if (target->realtime_ns != 0) {
    data->clock = target->kvmclock_ns + (uint64_t)aim_ns;
    data->realtime = target->realtime_ns;
    data->flags = KVM_CLOCK_REALTIME;
  } else {
    data->clock = kvmclock_target_at(target, op->ops->rdtsc(op->ops->ctx)) + (uint64_t)aim_ns;
  }
}

/*
 * KVM_SET_CLOCK means "now", and the kernel's now is a little off: it counts from one reading
 * of the time and stores relative to another. So write, see by how much it missed, aim
 * earlier by that much. On bare metal the second write is within tens of ns.
 */
static int write_kvmclock(const struct operation* op, const struct tsc_kvm_target* target,
                          struct tsc_kvmclock_result* out) {
  int64_t aim_ns = 0;
  memset(out, 0, sizeof(*out));
  do {
    struct kvm_clock_data data;
    enter(op, TSC_STEP_WRITE_KVMCLOCK, 0);
    aim_kvmclock(op, target, aim_ns, &data);
    if (issue(op, op->vm->vm_fd, KVM_SET_CLOCK, &data, 0) != 0) return -1;
    ++out->writes;
    enter(op, TSC_STEP_VERIFY_KVMCLOCK, 0);
    if (verify_kvmclock(op, target, out) != 0) return -1;
    aim_ns -= out->error_ns;
  } while (out->writes < KVMCLOCK_MAX_WRITES &&
           magnitude(out->error_ns) > KVMCLOCK_TOLERANCE_NS + (int64_t)out->read_error_ns);
  if (magnitude(out->error_ns) > KVMCLOCK_MAX_ERROR_NS + (int64_t)out->read_error_ns) {
    return not_kept(op, target->kvmclock_ns, target->kvmclock_ns + (uint64_t)out->error_ns);
  }
  return 0;
}

/* ---- apply ---- */

/* Finds, before anything is written, whether `wanted` names exactly the VM's vCPUs. */
static int check_ids(const struct operation* op, uint32_t count,
                     const struct tsc_vcpu_state* wanted) {
  uint32_t common = count < op->vm->vcpu_count ? count : op->vm->vcpu_count;
  for (uint32_t i = 0; i < common; ++i) {
    if (wanted[i].vcpu_id != op->vm->vcpus[i].id) {
      op->progress->vcpu_id = wanted[i].vcpu_id;
      return fail(op, TSC_KVM_MISMATCH, 0);
    }
  }
  return count == op->vm->vcpu_count ? 0 : fail(op, TSC_KVM_MISMATCH, 0);
}

static int write_all(const struct operation* op, uint32_t flags,
                     const struct tsc_vcpu_state* wanted) {
  for (uint32_t i = 0; i < op->vm->vcpu_count; ++i) {
    if (cancelled(op)) return fail(op, TSC_KVM_CANCELLED, 0);
    if (flags & TSC_TARGET_WRITE_KHZ) {
      enter(op, TSC_STEP_WRITE_KHZ, wanted[i].vcpu_id);
      if (write_khz(op, i, wanted[i].tsc_khz) != 0) return -1;
    }
    enter(op, TSC_STEP_WRITE_OFFSET, wanted[i].vcpu_id);
    if (write_offset(op, i, wanted[i].tsc_offset_ticks) != 0) return -1;
  }
  for (uint32_t i = 0; i < op->vm->vcpu_count; ++i) {
    if (cancelled(op)) return fail(op, TSC_KVM_CANCELLED, 0);
    enter(op, TSC_STEP_WRITE_MSRS, wanted[i].vcpu_id);
    if (write_msrs(op, i, &wanted[i]) != 0) return -1;
  }
  return 0;
}

static int verify_all(const struct operation* op, const struct tsc_vcpu_state* wanted,
                      struct tsc_vcpu_state* after) {
  for (uint32_t i = 0; i < op->vm->vcpu_count; ++i) {
    if (cancelled(op)) return fail(op, TSC_KVM_CANCELLED, 0);
    memset(&after[i], 0, sizeof(after[i]));
    after[i].vcpu_id = wanted[i].vcpu_id;
    enter(op, TSC_STEP_VERIFY_OFFSET, wanted[i].vcpu_id);
    if (read_offset(op, i, &after[i].tsc_offset_ticks) != 0) return -1;
    if (after[i].tsc_offset_ticks != wanted[i].tsc_offset_ticks) {
      return not_kept(op, wanted[i].tsc_offset_ticks, after[i].tsc_offset_ticks);
    }
    enter(op, TSC_STEP_VERIFY_MSRS, wanted[i].vcpu_id);
    if (read_msrs(op, i, &after[i]) != 0) return -1;
    if (after[i].tsc_adjust_ticks != wanted[i].tsc_adjust_ticks) {
      return not_kept(op, wanted[i].tsc_adjust_ticks, after[i].tsc_adjust_ticks);
    }
  }
  return 0;
}

/* kvmclock as it was read before, as a target to go back to; `wanted` relates host TSC and
 * realtime. */
static struct tsc_kvm_target target_from_reading(const struct tsc_kvmclock* reading,
                                                 const struct tsc_kvm_target* wanted) {
  struct tsc_kvm_target target = *wanted;
  target.kvmclock_ns = reading->kvmclock_ns;
  target.host_tsc_ticks =
      (reading->flags & KVM_CLOCK_HOST_TSC)
          ? reading->pair_host_tsc_ticks
          : reading->tsc_before_ticks + (reading->tsc_after_ticks - reading->tsc_before_ticks) / 2;
  if (wanted->realtime_ns != 0) {
    int64_t apart = (int64_t)(target.host_tsc_ticks - wanted->host_tsc_ticks);
    target.realtime_ns += (uint64_t)ticks_to_ns(apart, wanted->host_tsc_khz);
  }
  return target;
}

/*
 * Writes `before` back everywhere and looks whether it is there. A write that fails is not the
 * question (the vCPU whose write failed still has its old value); what reads back is.
 */
static int roll_back(const struct operation* failed, uint32_t flags,
                     const struct tsc_vcpu_state* before, const struct tsc_kvm_target* kvmclock) {
  struct tsc_kvm_fault ignored;
  struct operation op = *failed;
  op.fault = &ignored;
  for (uint32_t i = 0; i < op.vm->vcpu_count; ++i) {
    if (flags & TSC_TARGET_WRITE_KHZ) (void)write_khz(&op, i, before[i].tsc_khz);
    (void)write_offset(&op, i, before[i].tsc_offset_ticks);
    (void)write_msrs(&op, i, &before[i]);
  }
  for (uint32_t i = 0; i < op.vm->vcpu_count; ++i) {
    struct tsc_vcpu_state now;
    if (read_vcpu(&op, i, &now) != 0) return -1;
    if (now.tsc_offset_ticks != before[i].tsc_offset_ticks ||
        now.tsc_adjust_ticks != before[i].tsc_adjust_ticks || now.tsc_khz != before[i].tsc_khz) {
      return -1;
    }
  }
  struct tsc_kvmclock_result result;
  return kvmclock == NULL ? 0 : write_kvmclock(&op, kvmclock, &result);
}

/* Everything after the check of ids and the reading of `before`. Once complete, the operation
 * cannot be cancelled. */
static int write_and_verify(const struct operation* op, const struct tsc_kvm_target* target,
                            const struct tsc_vcpu_state* wanted, struct tsc_vcpu_state* after,
                            struct tsc_kvmclock_result* clock) {
  if (write_all(op, target->flags, wanted) != 0) return -1;
  if (verify_all(op, wanted, after) != 0) return -1;
  if (target->flags & TSC_TARGET_WRITE_KVMCLOCK) {
    if (cancelled(op)) return fail(op, TSC_KVM_CANCELLED, 0);
    if (write_kvmclock(op, target, clock) != 0) return -1;
  }
  return settle(op->progress, COMPLETE) == COMPLETE ? 0 : fail(op, TSC_KVM_CANCELLED, 0);
}

uint32_t tsc_kvm_apply(const struct tsc_kvm_ops* ops, const struct tsc_kvm_vm* vm,
                       struct tsc_kvm_progress* progress, const struct tsc_kvm_target* target,
                       const struct tsc_vcpu_state* wanted, struct tsc_vcpu_state* before,
                       struct tsc_vcpu_state* after, struct tsc_kvmclock_result* clock,
                       struct tsc_kvm_fault* fault) {
  struct operation op = begin(ops, vm, progress, fault);
  struct tsc_kvmclock kvmclock_before;
  memset(clock, 0, sizeof(*clock));
  if (check_ids(&op, target->vcpu_count, wanted) != 0) return fault->outcome;
  if (read_all(&op, before, &kvmclock_before) != 0) return fault->outcome;
  if (cancelled(&op)) {
    (void)fail(&op, TSC_KVM_CANCELLED, 0);
  } else if (write_and_verify(&op, target, wanted, after, clock) != 0) {
    struct tsc_kvm_target old_kvmclock = target_from_reading(&kvmclock_before, target);
    int kvmclock_touched = fault->step >= TSC_STEP_WRITE_KVMCLOCK;
    if (roll_back(&op, target->flags, before, kvmclock_touched ? &old_kvmclock : NULL) != 0) {
      fault->outcome = TSC_KVM_ROLLBACK_FAILED;
    }
  } else {
    for (uint32_t i = 0; i < vm->vcpu_count; ++i) {
      after[i].tsc_khz =
          (target->flags & TSC_TARGET_WRITE_KHZ) ? wanted[i].tsc_khz : before[i].tsc_khz;
    }
  }
  enter(&op, TSC_STEP_NONE, 0);
  return fault->outcome;
}

/* ---- host ---- */

int tsc_kvm_probe_host(const char* kvm_path, struct tsc_kvm_host* out) {
  memset(out, 0, sizeof(*out));
  int vm = -1;
  int vcpu = -1;
  int khz = -1;
  int kvm = open(kvm_path, O_RDWR | O_CLOEXEC);
  out->failed_step = 1;
  if (kvm < 0) goto done;
  out->failed_step = 2;
  vm = ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm < 0) goto done;
  out->tsc_control = (uint32_t)(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0);
  out->vcpu_attributes = (uint32_t)(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_VCPU_ATTRIBUTES) > 0);
  int adjust_clock = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK);
  out->adjust_clock = adjust_clock > 0 ? (uint32_t)adjust_clock : 0;
  out->failed_step = 3;
  vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  if (vcpu < 0) goto done;
  out->failed_step = 4;
  khz = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
  if (khz == 0) errno = EOPNOTSUPP;
done:
  if (khz > 0) {
    out->tsc_khz = (uint32_t)khz;
    out->failed_step = 0;
  } else {
    out->error = errno;
  }
  if (vcpu >= 0) close(vcpu);
  if (vm >= 0) close(vm);
  if (kvm >= 0) close(kvm);
  return khz > 0 ? 0 : -1;
}
