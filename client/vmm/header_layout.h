/* What tsc_kvm.h and tsc_wire.h promise of their structures, checked by both compilers: each is as
 * long as its fields are, so it has no padding, and equally long in C and C++. */
#ifndef TSC_HANDOFF_CLIENT_VMM_HEADER_LAYOUT_H_
#define TSC_HANDOFF_CLIENT_VMM_HEADER_LAYOUT_H_

#include "client/vmm/tsc_wire.h"

#ifdef __cplusplus
#define CHECK_SIZE(type, size) static_assert(sizeof(struct type) == (size), #type)
#else
#define CHECK_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
#endif

#define U16 2
#define U32 4
#define U64 8
#define HEADER (2 * U32 + U64)

CHECK_SIZE(tsc_kvm_vcpu, 2 * U32);
CHECK_SIZE(tsc_vcpu_state, 2 * U32 + 3 * U64);
CHECK_SIZE(tsc_kvmclock, 5 * U64 + 2 * U32);
CHECK_SIZE(tsc_kvm_fault, 4 * U32 + 2 * U64);
CHECK_SIZE(tsc_kvm_progress, 3 * U32);
CHECK_SIZE(tsc_kvm_target, 2 * U32 + 3 * U64 + 2 * U32);
CHECK_SIZE(tsc_kvmclock_result, 2 * U64 + 2 * U32);
CHECK_SIZE(tsc_kvm_host, 6 * U32);
CHECK_SIZE(tsc_wire_header, U32 + 2 * U16 + U64);
CHECK_SIZE(tsc_wire_hello, HEADER + 2 * U32 + TSC_WIRE_VM_ID_SIZE + TSC_WIRE_INSTANCE_SIZE);
CHECK_SIZE(tsc_wire_vcpus, HEADER + 2 * U32 + TSC_WIRE_FDS_PER_MESSAGE * U32);
CHECK_SIZE(tsc_wire_refused, HEADER + TSC_WIRE_TEXT_SIZE);
CHECK_SIZE(tsc_wire_permit, HEADER + 2 * U32 + U64 + TSC_WIRE_TEXT_SIZE);
CHECK_SIZE(tsc_wire_request, HEADER + U64 + 2 * U32);
CHECK_SIZE(tsc_wire_write, HEADER + U64 + 2 * U32 + sizeof(struct tsc_kvm_target));
CHECK_SIZE(tsc_wire_read_done,
           HEADER + sizeof(struct tsc_kvm_fault) + sizeof(struct tsc_kvmclock) + 2 * U32);
CHECK_SIZE(tsc_wire_write_done,
           HEADER + sizeof(struct tsc_kvm_fault) + sizeof(struct tsc_kvmclock_result) + 2 * U32);
CHECK_SIZE(tsc_wire_status_done, HEADER + 2 * U32);

#endif /* TSC_HANDOFF_CLIENT_VMM_HEADER_LAYOUT_H_ */
