/*
 * Private to the library: a session. It has two threads, of which one leads: it connects,
 * registers, reads requests and permits, and runs the operations, one at a time, itself, since to
 * hand them on would cost each a wake-up while the guest waits. An ioctl on a vCPU that executes
 * does not return before the vCPU stops, and nothing can interrupt it. So the other thread, the
 * stand-by, watches the operation's deadline. When it has come, the stand-by cancels the operation,
 * answers in its place and leads from then on; the thread that led comes back some time and is the
 * stand-by. Cancelling restores what the operation has written; one that was complete before cannot
 * be cancelled, and answers for itself.
 *
 * One mutex decides what may happen at once: an operation starts, and takes the permit, under it;
 * tsc_vmm_resume asks for both under it. So a VM runs, or is operated on, or waits without permit.
 *
 * Threading: functions that end in _locked REQUIRE the mutex; the others must be called without it.
 */
#ifndef TSC_HANDOFF_CLIENT_VMM_TSC_SESSION_H_
#define TSC_HANDOFF_CLIENT_VMM_TSC_SESSION_H_

#include <pthread.h>
#include <stdint.h>
#include <sys/un.h>

#include "client/vmm/tsc_vmm.h"
#include "client/vmm/tsc_wire.h"

#pragma GCC visibility push(hidden)

enum tsc_operation_state {
  TSC_OPERATION_IDLE,
  TSC_OPERATION_RUNNING,   /* on the thread that leads */
  TSC_OPERATION_ABANDONED, /* on the thread that led; the stand-by has answered */
};

/* The permit to run, as last told; see tsc_vmm.h. */
struct tsc_permit {
  int heard; /* an agent has said something since the session was opened */
  int due;   /* a registration said that the VM is paused; no word has come on it yet */
  int granted;
  char why_not[TSC_WIRE_TEXT_SIZE];
};

struct tsc_vmm {
  /* Constant after tsc_vmm_open. */
  char vm_id[TSC_WIRE_VM_ID_SIZE];
  unsigned char instance[TSC_WIRE_INSTANCE_SIZE];
  struct sockaddr_un address;
  struct tsc_kvm_vm vm;
  struct tsc_kvm_vcpu* vcpus;
  struct tsc_kvm_ops ops;
  void (*log)(void* user, enum tsc_vmm_level level, const char* line);
  void (*on_permit)(void* user, int granted, const char* why);
  void* user;
  int awaits_handoff;
  int reconnects; /* 0 for a socket that was handed in */
  int wake;       /* eventfd: the thread that leads shall look at `stopping` */
  pthread_t threads[2];

  /* Of the thread that leads. */
  unsigned char* incoming;

  pthread_mutex_t mutex;
  pthread_cond_t changed; /* any of the fields below */
  int stopping;
  int running;
  struct tsc_permit permit;
  int registered;
  int refused; /* the last attempt to register was refused: last_error says why */
  char last_error[TSC_VMM_ERROR_SIZE];
  int socket; /* -1 when not connected; closed only by the thread that leads */
  int led;    /* one of the threads leads, or none may yet */
  int over;   /* there is nothing left to lead */
  enum tsc_operation_state state;
  int64_t deadline_ms; /* of the operation that runs; -1: none, or it can answer only for itself */
  int watching; /* the stand-by wakes at a deadline by itself, and looks for a later one then */
  pthread_cond_t overdue; /* for the stand-by: a deadline while it is not watching; led, over */
  struct tsc_kvm_progress progress; /* cancelled and read without the mutex */

  /* Of the thread that runs an operation. */
  unsigned char* request;
  unsigned char* answer;
};

/* What both threads are: stand-by until there is nobody who leads, or he is overdue, then leading.
 * `session` is a struct tsc_vmm. */
void* tsc_session_main(void* session);

/* Leads until the stand-by has taken over, which it returns 0 for, or until the session is over. */
int tsc_connection_lead(struct tsc_vmm* s);

/* Runs what `request` says into `answer`, whose size it returns. Without the mutex. */
size_t tsc_operation_run(struct tsc_vmm* s);

/* An operation that did not end: where it stands. */
struct tsc_kvm_fault tsc_session_blocked_fault(struct tsc_vmm* s);

/* ---- what both and the public functions use ---- */

int64_t tsc_session_now_ms(void);

/* A sentence into error[TSC_VMM_ERROR_SIZE], which may be NULL. */
void __attribute__((format(printf, 2, 3)))
tsc_session_set_error(char* error, const char* format, ...);

/* A line for the VMM's log; not with the mutex, since it is the VMM's code. */
void __attribute__((format(printf, 3, 4)))
tsc_session_log(const struct tsc_vmm* s, enum tsc_vmm_level level, const char* format, ...);

int tsc_session_stopping(struct tsc_vmm* s);

/* Waits for a change. Returns 0 when `deadline_ms` has passed. */
int tsc_session_wait_locked(struct tsc_vmm* s, int64_t deadline_ms);

/* ---- the permit ---- */

/* A registration begins; returns the flags of its HELLO. From here on until the agent's word, or
 * the connection's end, tsc_vmm_resume waits: the agent has been told that the VM is paused. */
uint32_t tsc_permit_begin_registration(struct tsc_vmm* s);

/* The agent's word. Returns -1 when it is none. */
int tsc_permit_told(struct tsc_vmm* s, const struct tsc_wire_permit* message);

/* HOLD. Returns whether there was one. */
int tsc_permit_take_locked(struct tsc_vmm* s);

/* Whether no word of the agent is to be waited for. */
int tsc_permit_known_locked(const struct tsc_vmm* s);

/* Why there is no permit, as a sentence into error[TSC_VMM_ERROR_SIZE], which may be NULL. */
void tsc_permit_explain_locked(const struct tsc_vmm* s, char* error);

#pragma GCC visibility pop

#endif /* TSC_HANDOFF_CLIENT_VMM_TSC_SESSION_H_ */
