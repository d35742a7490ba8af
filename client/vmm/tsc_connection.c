/*
 * The connection thread: connects, registers, takes requests and permits in, and watches deadlines.
 * It never waits for the worker.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/vmm/tsc_message.h"
#include "client/vmm/tsc_session.h"

#define HANDSHAKE_TIMEOUT_MS 5000
#define RECONNECT_FIRST_MS 50
#define RECONNECT_MAX_MS 2000
/* An agent that does not take an answer for this long is gone. */
#define SEND_TIMEOUT_S 1

static void note_failure(struct tsc_vmm* s, int refused, const char* what) {
  pthread_mutex_lock(&s->mutex);
  int news = strncmp(s->last_error, what, TSC_VMM_ERROR_SIZE - 1) != 0;
  snprintf(s->last_error, sizeof(s->last_error), "%s", what);
  s->refused = refused;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  if (news) tsc_session_log(s, TSC_VMM_WARNING, "VM %s is not registered: %s", s->vm_id, what);
}

/* Waits until `socket` (or -1) is readable. Returns 1 if so, 0 on timeout (-1: none) or when woken.
 */
static int wait_readable(struct tsc_vmm* s, int socket, int timeout_ms) {
  struct pollfd fds[2] = {{s->wake, POLLIN, 0}, {socket, POLLIN, 0}};
  if (poll(fds, 2, timeout_ms) <= 0) return 0;
  if (fds[0].revents) {
    uint64_t ignored;
    if (read(s->wake, &ignored, sizeof(ignored)) < 0) return 0;
  }
  return fds[1].revents != 0;
}

static int connect_to_agent(struct tsc_vmm* s) {
  char why[TSC_VMM_ERROR_SIZE];
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr*)&s->address, sizeof(s->address)) == 0)
    return fd;
  tsc_session_set_error(why, "cannot connect to the agent at %.107s: %s; is tsc-agent running?",
                        s->address.sun_path, strerror(errno));
  if (fd >= 0) close(fd);
  note_failure(s, 0, why);
  return -1;
}

static int send_registration(struct tsc_vmm* s, int socket) {
  struct tsc_wire_hello hello;
  memset(&hello, 0, sizeof(hello));
  hello.header = tsc_message_header(TSC_WIRE_HELLO, 0);
  hello.vcpu_count = s->vm.vcpu_count;
  hello.flags = tsc_permit_begin_registration(s);
  memcpy(hello.vm_id, s->vm_id, sizeof(hello.vm_id));
  memcpy(hello.instance, s->instance, sizeof(hello.instance));
  if (tsc_message_send(socket, &hello, sizeof(hello), &s->vm.vm_fd, 1) != 0) return -1;
  for (uint32_t sent = 0; sent < s->vm.vcpu_count;) {
    struct tsc_wire_vcpus message;
    int fds[TSC_WIRE_FDS_PER_MESSAGE];
    memset(&message, 0, sizeof(message));
    message.header = tsc_message_header(TSC_WIRE_VCPUS, 0);
    while (sent < s->vm.vcpu_count && message.count < TSC_WIRE_FDS_PER_MESSAGE) {
      message.ids[message.count] = s->vcpus[sent].id;
      fds[message.count++] = s->vcpus[sent++].fd;
    }
    if (tsc_message_send(socket, &message, sizeof(message), fds, message.count) != 0) return -1;
  }
  return 0;
}

/* Registers over `socket`. Returns 0 when welcome. The agent may refuse before it has read
 * everything. */
static int register_vm(struct tsc_vmm* s, int socket) {
  char why[TSC_VMM_ERROR_SIZE];
  struct timeval send_timeout = {SEND_TIMEOUT_S, 0};
  (void)setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &send_timeout, sizeof(send_timeout));
  struct tsc_wire_refused answer;
  int sent = send_registration(s, socket);
  int send_error = errno;
  if (!wait_readable(s, socket, HANDSHAKE_TIMEOUT_MS)) {
    note_failure(s, 0, "the agent does not answer the registration");
    return -1;
  }
  ssize_t length = tsc_message_receive(socket, &answer, sizeof(answer));
  if (length >= (ssize_t)sizeof(answer.header) && answer.header.magic == TSC_WIRE_MAGIC) {
    if (answer.header.type == TSC_WIRE_WELCOME && sent == 0) return 0;
    if (answer.header.type == TSC_WIRE_REFUSED && length == (ssize_t)sizeof(answer)) {
      answer.text[sizeof(answer.text) - 1] = '\0';
      tsc_session_set_error(why, "the agent refused it: %.200s", answer.text);
      note_failure(s, 1, why);
      return -1;
    }
  }
  tsc_session_set_error(why, "the agent ended the registration: %s",
                        strerror(sent != 0 ? send_error : ECONNRESET));
  note_failure(s, 0, why);
  return -1;
}

static struct tsc_kvm_fault blocked_fault(struct tsc_vmm* s) {
  struct tsc_kvm_fault fault;
  memset(&fault, 0, sizeof(fault));
  fault.outcome = TSC_KVM_BLOCKED;
  fault.step = __atomic_load_n(&s->progress.step, __ATOMIC_ACQUIRE);
  fault.vcpu_id = __atomic_load_n(&s->progress.vcpu_id, __ATOMIC_RELAXED);
  return fault;
}

/* Gives the request in s->incoming to the worker, and the permit up if it says so; or says why not,
 * and gives nothing up. Returns -1 when the connection is to be ended. */
static int start_operation(struct tsc_vmm* s, size_t length, uint64_t deadline_ns, uint32_t flags) {
  struct tsc_wire_header request;
  struct tsc_kvm_fault fault;
  int permit_taken = 0;
  memset(&fault, 0, sizeof(fault));
  memcpy(&request, s->incoming, sizeof(request));
  pthread_mutex_lock(&s->mutex);
  const int64_t deadline_ms = (int64_t)(deadline_ns / 1000000);
  if (deadline_ms <=
      tsc_session_now_ms()) { /* nobody waits for it any more: it must not happen late */
    fault.outcome = TSC_KVM_CANCELLED;
  } else if (s->running) {
    fault.outcome = TSC_KVM_RUNNING;
  } else if (s->state != TSC_OPERATION_IDLE) {
    /* an earlier one is stuck in a vCPU that executes all the same */
    fault = blocked_fault(s);
  } else {
    memcpy(s->request, s->incoming, length);
    memset(&s->progress, 0, sizeof(s->progress));
    if (flags & TSC_WIRE_HOLD) permit_taken = tsc_permit_take_locked(s);
    s->state = TSC_OPERATION_RUNNING;
    s->deadline_ms = deadline_ms;
    pthread_cond_broadcast(&s->changed);
  }
  pthread_mutex_unlock(&s->mutex);
  if (permit_taken) tsc_session_log(s, TSC_VMM_INFO, "VM %s is in a handoff: no permit", s->vm_id);
  return fault.outcome == TSC_KVM_OK ? 0 : tsc_message_send_fault(s->socket, &request, &fault);
}

/* The deadline has come: take the request from the worker if he still has it. */
static int expire_operation(struct tsc_vmm* s) {
  int result = 0;
  s->deadline_ms = -1;
  pthread_mutex_lock(&s->mutex);
  /* An operation that is complete is about to answer for itself. */
  if (s->state == TSC_OPERATION_RUNNING && tsc_kvm_cancel(&s->progress)) {
    struct tsc_wire_header request;
    struct tsc_kvm_fault fault = blocked_fault(s);
    memcpy(&request, s->request, sizeof(request));
    s->state = TSC_OPERATION_ABANDONED;
    result = tsc_message_send_fault(s->socket, &request, &fault);
  }
  pthread_mutex_unlock(&s->mutex);
  return result;
}

static int send_status(struct tsc_vmm* s, uint64_t request_id) {
  struct tsc_wire_status_done done;
  memset(&done, 0, sizeof(done));
  done.header = tsc_message_header(TSC_WIRE_STATUS_DONE, request_id);
  pthread_mutex_lock(&s->mutex);
  done.running = (uint32_t)s->running;
  pthread_mutex_unlock(&s->mutex);
  return tsc_message_send(s->socket, &done, sizeof(done), NULL, 0);
}

static int handle_write(struct tsc_vmm* s, size_t length) {
  struct tsc_wire_write write;
  if (length < sizeof(write)) return -1;
  memcpy(&write, s->incoming, sizeof(write));
  const size_t tail = (size_t)write.target.vcpu_count * sizeof(struct tsc_vcpu_state);
  if (length != sizeof(write) + tail || write.target.host_tsc_khz == 0 ||
      (write.flags & ~(uint32_t)TSC_WIRE_HOLD) != 0) {
    return -1;
  }
  return start_operation(s, length, write.deadline_ns, write.flags);
}

static int handle_permit(struct tsc_vmm* s, size_t length) {
  struct tsc_wire_permit permit;
  if (length != sizeof(permit)) return -1;
  memcpy(&permit, s->incoming, sizeof(permit));
  return tsc_permit_told(s, &permit);
}

/* Returns -1 when the connection is at its end, or what came is no message of this protocol. */
static int handle_message(struct tsc_vmm* s) {
  const ssize_t received =
      tsc_message_receive(s->socket, s->incoming, TSC_WIRE_MAX_REQUEST(s->vm.vcpu_count));
  struct tsc_wire_request request;
  if (received < (ssize_t)sizeof(request)) return -1;
  const size_t length = (size_t)received;
  memcpy(&request, s->incoming, sizeof(request));
  if (request.header.magic != TSC_WIRE_MAGIC || request.header.version != TSC_WIRE_VERSION)
    return -1;
  switch (request.header.type) {
    case TSC_WIRE_STATUS:
      if (length != sizeof(request) || request.flags != 0) return -1;
      return send_status(s, request.header.request_id);
    case TSC_WIRE_READ:
      if (length != sizeof(request) || (request.flags & ~(uint32_t)TSC_WIRE_HOLD) != 0) return -1;
      return start_operation(s, length, request.deadline_ns, request.flags);
    case TSC_WIRE_WRITE:
      return handle_write(s, length);
    case TSC_WIRE_PERMIT:
      return handle_permit(s, length);
    default:
      return -1;
  }
}

static void serve(struct tsc_vmm* s) {
  while (!tsc_session_stopping(s)) {
    int timeout_ms = -1;
    if (s->deadline_ms >= 0) {
      int64_t left = s->deadline_ms - tsc_session_now_ms();
      if (left <= 0 && expire_operation(s) != 0) return;
      timeout_ms = left > 0 ? (int)left : -1;
    }
    if (wait_readable(s, s->socket, timeout_ms) && handle_message(s) != 0) return;
  }
}

static void set_socket(struct tsc_vmm* s, int socket, int registered) {
  pthread_mutex_lock(&s->mutex);
  if (registered) {
    s->last_error[0] = '\0';
    s->refused = 0;
  }
  if (socket < 0 && s->state == TSC_OPERATION_RUNNING) { /* nobody listens any more */
    s->state = TSC_OPERATION_ABANDONED;
    (void)tsc_kvm_cancel(&s->progress);
  }
  if (socket < 0) s->permit.due = 0; /* no word will come; that of before holds */
  s->socket = socket;
  s->registered = registered;
  s->deadline_ms = -1;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
}

/* Registers over `socket` and serves until the connection ends; closes it. The permit stays as it
 * was last told. */
static void serve_connection(struct tsc_vmm* s, int socket, int* backoff_ms) {
  if (register_vm(s, socket) == 0) {
    *backoff_ms = RECONNECT_FIRST_MS;
    set_socket(s, socket, 1);
    tsc_session_log(s, TSC_VMM_INFO, "VM %s is registered with the agent", s->vm_id);
    serve(s);
    if (!tsc_session_stopping(s))
      tsc_session_log(s, TSC_VMM_WARNING, "VM %s has lost its agent", s->vm_id);
  }
  set_socket(s, -1, 0);
  close(socket);
}

void* tsc_connection_main(void* session) {
  struct tsc_vmm* s = session;
  int backoff_ms = RECONNECT_FIRST_MS;
  if (!s->reconnects) {
    serve_connection(s, s->socket, &backoff_ms);
    return NULL;
  }
  while (!tsc_session_stopping(s)) {
    int socket = connect_to_agent(s);
    if (socket >= 0) serve_connection(s, socket, &backoff_ms);
    if (!tsc_session_stopping(s)) (void)wait_readable(s, -1, backoff_ms);
    backoff_ms = backoff_ms * 2 < RECONNECT_MAX_MS ? backoff_ms * 2 : RECONNECT_MAX_MS;
  }
  return NULL;
}
