/* The thread that does not lead: waits until it has to. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "client/vmm/tsc_message.h"
#include "client/vmm/tsc_session.h"

struct tsc_kvm_fault tsc_session_blocked_fault(struct tsc_vmm* s) {
  struct tsc_kvm_fault fault;
  memset(&fault, 0, sizeof(fault));
  fault.outcome = TSC_KVM_BLOCKED;
  fault.step = __atomic_load_n(&s->progress.step, __ATOMIC_ACQUIRE);
  fault.vcpu_id = __atomic_load_n(&s->progress.vcpu_id, __ATOMIC_RELAXED);
  return fault;
}

/* The deadline has come: cancels the operation and answers for the thread that runs it. Returns
 * whether it could; an operation that is complete is about to answer for itself. */
static int take_over_locked(struct tsc_vmm* s) {
  s->deadline_ms = -1;
  if (!tsc_kvm_cancel(&s->progress)) return 0;
  struct tsc_wire_header request;
  struct tsc_kvm_fault fault = tsc_session_blocked_fault(s);
  memcpy(&request, s->request, sizeof(request));
  s->state = TSC_OPERATION_ABANDONED;
  /* An agent that does not take the answer is found out by whoever serves the connection next. */
  if (tsc_message_send_fault(s->socket, &request, &fault) != 0)
    (void)shutdown(s->socket, SHUT_RDWR);
  return 1;
}

static void wait_for_deadline_locked(struct tsc_vmm* s) {
  if (s->deadline_ms < 0) {
    (void)pthread_cond_wait(&s->overdue, &s->mutex);
    return;
  }
  const struct timespec until = {s->deadline_ms / 1000, (s->deadline_ms % 1000) * 1000000};
  s->watching = 1;
  (void)pthread_cond_timedwait(&s->overdue, &s->mutex, &until);
  s->watching = 0;
}

/* Returns 1 when this thread is to lead, 0 when there is nothing left to do. */
static int stand_by(struct tsc_vmm* s) {
  int leads = 0;
  pthread_mutex_lock(&s->mutex);
  while (!leads && !s->over && !(s->stopping && s->led)) {
    if (!s->led) {
      leads = s->led = 1;
    } else if (s->deadline_ms >= 0 && s->deadline_ms <= tsc_session_now_ms()) {
      leads = take_over_locked(s);
    } else {
      wait_for_deadline_locked(s);
    }
  }
  pthread_mutex_unlock(&s->mutex);
  return leads;
}

void* tsc_session_main(void* session) {
  struct tsc_vmm* s = session;
  while (stand_by(s)) {
    if (tsc_connection_lead(s) == 0)
      continue; /* the other one leads, and this one is the stand-by */
    pthread_mutex_lock(&s->mutex);
    s->over = 1;
    pthread_cond_signal(&s->overdue);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
  }
  return NULL;
}
