/*
 * Version 2. Messages between a VMM (tsc_vmm.c) and the agent (server/port) over a Unix socket of
 * type SOCK_SEQPACKET: one message is one packet. Both ends run on one host, so fields have the
 * host's byte order; structures have no padding and are checked by their length, which follows from
 * the type and the counts in them.
 *
 *     VMM                                   agent
 *     HELLO (+ VM descriptor)          ->
 *     VCPUS (+ vCPU descriptors), ...  ->   until all vCPUs have come
 *                                      <-   WELCOME, or REFUSED and the end of the connection
 *                                      <-   PERMIT                    first, and at each change
 *                                      <-   READ | WRITE | STATUS     one at a time
 *     READ_DONE | WRITE_DONE | STATUS_DONE ->  with the request's id
 *
 * An answer that nobody waits for any more is recognised by its id and dropped.
 *
 * PERMIT comes unasked and is not answered. It takes effect in its place among the requests, also
 * while one is being carried out.
 */
#ifndef TSC_HANDOFF_CLIENT_VMM_TSC_WIRE_H_
#define TSC_HANDOFF_CLIENT_VMM_TSC_WIRE_H_

#include <stdint.h>

#include "client/vmm/tsc_kvm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TSC_WIRE_MAGIC 0x48435354u /* "TSCH" */
#define TSC_WIRE_VERSION 2u
#define TSC_WIRE_VM_ID_SIZE 136u /* 128 characters and a NUL, rounded up */
#define TSC_WIRE_VM_ID_MAX 128u
#define TSC_WIRE_FDS_PER_MESSAGE 250u /* the kernel's SCM_MAX_FD is 253 */
#define TSC_WIRE_TEXT_SIZE 256u
#define TSC_WIRE_INSTANCE_SIZE 16u

enum tsc_wire_type {
  TSC_WIRE_HELLO = 1,
  TSC_WIRE_VCPUS = 2,
  TSC_WIRE_WELCOME = 3,
  TSC_WIRE_REFUSED = 4,
  TSC_WIRE_READ = 5,
  TSC_WIRE_READ_DONE = 6,
  TSC_WIRE_WRITE = 7,
  TSC_WIRE_WRITE_DONE = 8,
  TSC_WIRE_STATUS = 9,
  TSC_WIRE_STATUS_DONE = 10,
  TSC_WIRE_PERMIT = 11,
};

struct tsc_wire_header {
  uint32_t magic;
  uint16_t version;
  uint16_t type; /* enum tsc_wire_type */
  uint64_t request_id;
};

/* Of HELLO. The agent refuses flags that it does not know. */
enum tsc_wire_hello_flag {
  TSC_WIRE_AWAITS_HANDOFF = 1, /* the VM may run only when a handoff has brought it */
  TSC_WIRE_IS_RUNNING = 2,     /* its vCPUs may execute now, with a permit of before */
};

/* Carries one descriptor: the VM's. */
struct tsc_wire_hello {
  struct tsc_wire_header header;
  uint32_t vcpu_count;
  uint32_t flags;                                 /* enum tsc_wire_hello_flag */
  char vm_id[TSC_WIRE_VM_ID_SIZE];                /* NUL-terminated */
  unsigned char instance[TSC_WIRE_INSTANCE_SIZE]; /* random; of the session, over reconnections */
};

/* Carries `count` descriptors, of the vCPUs ids[0 .. count). Ids ascend strictly over all VCPUS
 * messages. */
struct tsc_wire_vcpus {
  struct tsc_wire_header header;
  uint32_t count;
  uint32_t reserved;
  uint32_t ids[TSC_WIRE_FDS_PER_MESSAGE];
};

struct tsc_wire_refused {
  struct tsc_wire_header header;
  char text[TSC_WIRE_TEXT_SIZE]; /* NUL-terminated sentence */
};

/*
 * Whether the VM may run. The VMM holds the permit as last told, also while it has no agent; it has
 * none before the first PERMIT.
 */
struct tsc_wire_permit {
  struct tsc_wire_header header; /* request_id 0 */
  uint32_t granted;              /* 0 or 1 */
  uint32_t reserved;
  uint64_t epoch;                /* of the handoff that decided it; 0: none */
  char text[TSC_WIRE_TEXT_SIZE]; /* why not, NUL-terminated; empty when granted */
};

/* Of READ and WRITE. The VMM ends the connection at flags that it does not know. */
enum tsc_wire_request_flag {
  /*
   * The permit to run is given up in the step that starts the operation, and not given back if the
   * operation fails. A request that is not started (the VM runs, another one is stuck, or the
   * deadline has passed) takes nothing.
   */
  TSC_WIRE_HOLD = 1,
};

/*
 * READ and STATUS. The VMM answers READ and WRITE before deadline_ns of CLOCK_MONOTONIC (both ends
 * are on one host), with TSC_KVM_BLOCKED when it has to. What it reads after the deadline, because
 * it was stopped meanwhile, it does not carry out.
 */
struct tsc_wire_request {
  struct tsc_wire_header header;
  uint64_t deadline_ns;
  uint32_t flags; /* enum tsc_wire_request_flag; STATUS has none */
  uint32_t reserved;
};

/* Followed by target.vcpu_count tsc_vcpu_state: what to write. */
struct tsc_wire_write {
  struct tsc_wire_header header;
  uint64_t deadline_ns;
  uint32_t flags; /* enum tsc_wire_request_flag */
  uint32_t reserved;
  struct tsc_kvm_target target;
};

/* Followed by vcpu_count tsc_vcpu_state; vcpu_count is 0 unless the outcome is TSC_KVM_OK. */
struct tsc_wire_read_done {
  struct tsc_wire_header header;
  struct tsc_kvm_fault fault;
  struct tsc_kvmclock kvmclock;
  uint32_t vcpu_count;
  uint32_t reserved;
};

/* Followed by vcpu_count tsc_vcpu_state from before, and as many from after; 0 unless the outcome
 * is TSC_KVM_OK. */
struct tsc_wire_write_done {
  struct tsc_wire_header header;
  struct tsc_kvm_fault fault;
  struct tsc_kvmclock_result kvmclock;
  uint32_t vcpu_count;
  uint32_t reserved;
};

struct tsc_wire_status_done {
  struct tsc_wire_header header;
  uint32_t running; /* 1: the VMM says that vCPUs may execute */
  uint32_t reserved;
};

/* No message of either direction for a VM of `vcpu_count` vCPUs is longer. */
#define TSC_WIRE_MAX_REQUEST(vcpu_count)                            \
  (sizeof(struct tsc_wire_permit) + sizeof(struct tsc_wire_write) + \
   (size_t)(vcpu_count) * sizeof(struct tsc_vcpu_state))
#define TSC_WIRE_MAX_ANSWER(vcpu_count) \
  (sizeof(struct tsc_wire_write_done) + (size_t)(vcpu_count)*2 * sizeof(struct tsc_vcpu_state))

#ifdef __cplusplus
}
#endif

#endif /* TSC_HANDOFF_CLIENT_VMM_TSC_WIRE_H_ */
