/* Runs one operation: the request's words become calls of tsc_kvm.h, and their results the answer.
 */
#include <string.h>

#include "client/vmm/tsc_message.h"
#include "client/vmm/tsc_session.h"

static size_t run_read(struct tsc_vmm* s) {
  struct tsc_wire_header request;
  struct tsc_wire_read_done* done = (struct tsc_wire_read_done*)s->answer;
  memcpy(&request, s->request, sizeof(request));
  memset(done, 0, sizeof(*done));
  done->header = tsc_message_header(TSC_WIRE_READ_DONE, request.request_id);
  struct tsc_vcpu_state* states = (struct tsc_vcpu_state*)(done + 1);
  if (tsc_kvm_capture(&s->ops, &s->vm, &s->progress, states, &done->kvmclock, &done->fault) ==
      TSC_KVM_OK) {
    done->vcpu_count = s->vm.vcpu_count;
  }
  return sizeof(*done) + done->vcpu_count * sizeof(struct tsc_vcpu_state);
}

static size_t run_write(struct tsc_vmm* s) {
  const struct tsc_wire_write* write = (const struct tsc_wire_write*)s->request;
  const struct tsc_vcpu_state* wanted = (const struct tsc_vcpu_state*)(write + 1);
  struct tsc_wire_write_done* done = (struct tsc_wire_write_done*)s->answer;
  memset(done, 0, sizeof(*done));
  done->header = tsc_message_header(TSC_WIRE_WRITE_DONE, write->header.request_id);
  struct tsc_vcpu_state* before = (struct tsc_vcpu_state*)(done + 1);
  struct tsc_vcpu_state* after = before + s->vm.vcpu_count;
  if (tsc_kvm_apply(&s->ops, &s->vm, &s->progress, &write->target, wanted, before, after,
                    &done->kvmclock, &done->fault) == TSC_KVM_OK) {
    done->vcpu_count = s->vm.vcpu_count;
  }
  return sizeof(*done) + (size_t)done->vcpu_count * 2 * sizeof(struct tsc_vcpu_state);
}

size_t tsc_operation_run(struct tsc_vmm* s) {
  struct tsc_wire_header request;
  memcpy(&request, s->request, sizeof(request));
  return request.type == TSC_WIRE_READ ? run_read(s) : run_write(s);
}
