/*
 * What the thread does that leads: connects, registers, takes permits in, and requests, which it
 * runs and answers.
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

/* What serving one message comes to. */
enum served { SERVED, DEPOSED /* the stand-by leads now */, CONNECTION_OVER };

/* Answers the request that runs, unless the stand-by has. */
static enum served end_operation(struct tsc_vmm* s, size_t answer_size) {
  enum served result = SERVED;
  pthread_mutex_lock(&s->mutex);
  if (s->state == TSC_OPERATION_ABANDONED) {
    result = DEPOSED;
  } else if (tsc_message_send(s->socket, s->answer, answer_size, NULL, 0) != 0) {
    result = CONNECTION_OVER;
  }
  s->state = TSC_OPERATION_IDLE;
  s->deadline_ms = -1;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  return result;
}

/* Runs the request in s->incoming, and gives the permit up if it says so; or says why not, and
 * gives nothing up. */
static enum served run_operation(struct tsc_vmm* s, uint64_t deadline_ns, uint32_t flags) {
  struct tsc_wire_header request;
  struct tsc_kvm_fault fault;
  int permit_taken = 0;
  int wake_standby = 0;
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
    fault = tsc_session_blocked_fault(s);
  } else {
    unsigned char* const free_buffer = s->request;
    s->request = s->incoming;
    s->incoming = free_buffer;
    memset(&s->progress, 0, sizeof(s->progress));
    if (flags & TSC_WIRE_HOLD) permit_taken = tsc_permit_take_locked(s);
    s->state = TSC_OPERATION_RUNNING;
    s->deadline_ms = deadline_ms;
    wake_standby = !s->watching;
  }
  pthread_mutex_unlock(&s->mutex);
  if (wake_standby) pthread_cond_signal(&s->overdue);
  if (permit_taken) tsc_session_log(s, TSC_VMM_INFO, "VM %s is in a handoff: no permit", s->vm_id);
  if (fault.outcome == TSC_KVM_OK) return end_operation(s, tsc_operation_run(s));
  return tsc_message_send_fault(s->socket, &request, &fault) == 0 ? SERVED : CONNECTION_OVER;
}

static enum served send_status(struct tsc_vmm* s, uint64_t request_id) {
  struct tsc_wire_status_done done;
  memset(&done, 0, sizeof(done));
  done.header = tsc_message_header(TSC_WIRE_STATUS_DONE, request_id);
  pthread_mutex_lock(&s->mutex);
  done.running = (uint32_t)s->running;
  pthread_mutex_unlock(&s->mutex);
  return tsc_message_send(s->socket, &done, sizeof(done), NULL, 0) == 0 ? SERVED : CONNECTION_OVER;
}

static enum served handle_write(struct tsc_vmm* s, size_t length) {
  struct tsc_wire_write write;
  if (length < sizeof(write)) return CONNECTION_OVER;
  memcpy(&write, s->incoming, sizeof(write));
  const size_t tail = (size_t)write.target.vcpu_count * sizeof(struct tsc_vcpu_state);
  if (length != sizeof(write) + tail || write.target.host_tsc_khz == 0 ||
      (write.flags & ~(uint32_t)TSC_WIRE_HOLD) != 0) {
    return CONNECTION_OVER;
  }
  return run_operation(s, write.deadline_ns, write.flags);
}

static enum served handle_permit(struct tsc_vmm* s, size_t length) {
  struct tsc_wire_permit permit;
  if (length != sizeof(permit)) return CONNECTION_OVER;
  memcpy(&permit, s->incoming, sizeof(permit));
  return tsc_permit_told(s, &permit) == 0 ? SERVED : CONNECTION_OVER;
}

/* CONNECTION_OVER also when what came is no message of this protocol. */
static enum served handle_message(struct tsc_vmm* s) {
  const ssize_t received =
      tsc_message_receive(s->socket, s->incoming, TSC_WIRE_MAX_REQUEST(s->vm.vcpu_count));
  struct tsc_wire_request request;
  if (received < (ssize_t)sizeof(request)) return CONNECTION_OVER;
  const size_t length = (size_t)received;
  memcpy(&request, s->incoming, sizeof(request));
  if (request.header.magic != TSC_WIRE_MAGIC || request.header.version != TSC_WIRE_VERSION)
    return CONNECTION_OVER;
  switch (request.header.type) {
    case TSC_WIRE_STATUS:
      if (length != sizeof(request) || request.flags != 0) return CONNECTION_OVER;
      return send_status(s, request.header.request_id);
    case TSC_WIRE_READ:
      if (length != sizeof(request) || (request.flags & ~(uint32_t)TSC_WIRE_HOLD) != 0)
        return CONNECTION_OVER;
      return run_operation(s, request.deadline_ns, request.flags);
    case TSC_WIRE_WRITE:
      return handle_write(s, length);
    case TSC_WIRE_PERMIT:
      return handle_permit(s, length);
    default:
      return CONNECTION_OVER;
  }
}

/* Never SERVED. */
static enum served serve(struct tsc_vmm* s) {
  enum served result = SERVED;
  while (result == SERVED && !tsc_session_stopping(s)) {
    if (wait_readable(s, s->socket, -1)) result = handle_message(s);
  }
  return result == SERVED ? CONNECTION_OVER : result;
}

static void set_socket(struct tsc_vmm* s, int socket, int registered) {
  pthread_mutex_lock(&s->mutex);
  if (registered) {
    s->last_error[0] = '\0';
    s->refused = 0;
  }
  if (socket < 0) s->permit.due = 0; /* no word will come; that of before holds */
  s->socket = socket;
  s->registered = registered;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
}

static void end_connection(struct tsc_vmm* s, int socket) {
  set_socket(s, -1, 0);
  close(socket);
}

/* Connects, or takes the socket that was handed in, and registers. */
static int begin_connection(struct tsc_vmm* s) {
  const int socket = s->reconnects ? connect_to_agent(s) : s->socket;
  if (socket < 0) return -1;
  if (register_vm(s, socket) != 0) {
    end_connection(s, socket);
    return -1;
  }
  set_socket(s, socket, 1);
  tsc_session_log(s, TSC_VMM_INFO, "VM %s is registered with the agent", s->vm_id);
  return 0;
}

/* What the thread that led before has registered goes on. The permit stays as it was last told. */
int tsc_connection_lead(struct tsc_vmm* s) {
  int backoff_ms = RECONNECT_FIRST_MS;
  while (!tsc_session_stopping(s)) {
    if (s->registered || begin_connection(s) == 0) {
      backoff_ms = RECONNECT_FIRST_MS;
      if (serve(s) == DEPOSED) return 0;
      if (!tsc_session_stopping(s))
        tsc_session_log(s, TSC_VMM_WARNING, "VM %s has lost its agent", s->vm_id);
      end_connection(s, s->socket);
    }
    if (!s->reconnects) return -1;
    if (!tsc_session_stopping(s)) (void)wait_readable(s, -1, backoff_ms);
    backoff_ms = backoff_ms * 2 < RECONNECT_MAX_MS ? backoff_ms * 2 : RECONNECT_MAX_MS;
  }
  if (s->socket >= 0) end_connection(s, s->socket);
  return -1;
}
