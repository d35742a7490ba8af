/*
 * See tsc_vmm.h. A session has two threads:
 *   - the connection thread connects, registers, reads requests and watches their deadlines;
 *   - the worker runs one operation at a time. An ioctl on a vCPU that executes does not return
 * before the vCPU stops, and nothing can interrupt it; so the worker may be stuck while the
 * connection thread goes on answering. Whoever answers a request first takes it (operation.state,
 * under the mutex); the other keeps quiet. An operation whose request was given up is cancelled,
 * which restores what it has written, unless it was complete before.
 */
#include "client/vmm/tsc_vmm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client/vmm/tsc_wire.h"

#define HANDSHAKE_TIMEOUT_MS 5000
#define RECONNECT_FIRST_MS 50
#define RECONNECT_MAX_MS 2000
/* An agent that does not take an answer for this long is gone. */
#define SEND_TIMEOUT_S 1
/* Longer than any operation that the agent waits for. */
#define RESUME_TIMEOUT_MS 1500

enum operation_state {
  OPERATION_IDLE,
  OPERATION_RUNNING,   /* the worker will answer */
  OPERATION_ABANDONED, /* answered by the connection thread, or nobody listens any more */
};

struct tsc_vmm {
  /* Constant after tsc_vmm_open. */
  char vm_id[TSC_WIRE_VM_ID_SIZE];
  struct sockaddr_un address;
  struct tsc_kvm_vm vm;
  struct tsc_kvm_vcpu* vcpus;
  struct tsc_kvm_ops ops;
  void (*log)(void* user, enum tsc_vmm_level level, const char* line);
  void* user;
  int reconnects; /* 0 for a socket that was handed in */
  int wake;       /* eventfd: the connection thread shall look at `stopping` */
  pthread_t connection_thread;
  pthread_t worker_thread;

  /* Of the connection thread. */
  int64_t deadline_ms; /* of the operation in progress; -1 none */
  unsigned char* incoming;

  pthread_mutex_t mutex;
  pthread_cond_t changed; /* any of the fields below */
  int stopping;
  int running;
  int registered;
  int refused; /* the last attempt to register was refused: last_error says why */
  char last_error[TSC_VMM_ERROR_SIZE];
  int socket; /* -1 when not connected; closed only by the connection thread */
  enum operation_state state;
  struct tsc_kvm_progress progress; /* cancelled and read without the mutex */

  /* Handed from the connection thread to the worker and back with `state`. */
  unsigned char* request;
  unsigned char* answer;
};

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void __attribute__((format(printf, 2, 3))) set_error(char* error, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (error != NULL) vsnprintf(error, TSC_VMM_ERROR_SIZE, format, arguments);
  va_end(arguments);
}

static void __attribute__((format(printf, 3, 4)))
log_line(const struct tsc_vmm* s, enum tsc_vmm_level level, const char* format, ...) {
  if (s->log == NULL) return;
  char line[TSC_VMM_ERROR_SIZE + 64];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  s->log(s->user, level, line);
}

/* ---- messages ---- */

static struct tsc_wire_header make_header(enum tsc_wire_type type, uint64_t request_id) {
  struct tsc_wire_header header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, (uint16_t)type, request_id};
  return header;
}

static int send_message(int socket, const void* message, size_t size, const int* fds,
                        uint32_t fd_count) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * TSC_WIRE_FDS_PER_MESSAGE)];
  } control;
  struct iovec io = {(void*)(uintptr_t)message, size};
  struct msghdr header;
  memset(&header, 0, sizeof(header));
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  if (fd_count > 0) {
    memset(&control, 0, sizeof(control));
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == (ssize_t)size ? 0 : -1;
}

/* Returns the message's length, 0 at the end of the connection, -1 on an error. A longer message
 * than fits is one. */
static ssize_t receive_message(int socket, void* buffer, size_t size) {
  struct iovec io = {buffer, size};
  struct msghdr header;
  memset(&header, 0, sizeof(header));
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  ssize_t length;
  do {
    length = recvmsg(socket, &header, 0);
  } while (length < 0 && errno == EINTR);
  if (length > 0 && (header.msg_flags & MSG_TRUNC)) return -1;
  return length;
}

/* ---- worker: runs operations ---- */

static size_t run_read(struct tsc_vmm* s) {
  struct tsc_wire_header request;
  struct tsc_wire_read_done* done = (struct tsc_wire_read_done*)s->answer;
  memcpy(&request, s->request, sizeof(request));
  memset(done, 0, sizeof(*done));
  done->header = make_header(TSC_WIRE_READ_DONE, request.request_id);
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
  done->header = make_header(TSC_WIRE_WRITE_DONE, write->header.request_id);
  struct tsc_vcpu_state* before = (struct tsc_vcpu_state*)(done + 1);
  struct tsc_vcpu_state* after = before + s->vm.vcpu_count;
  if (tsc_kvm_apply(&s->ops, &s->vm, &s->progress, &write->target, wanted, before, after,
                    &done->kvmclock, &done->fault) == TSC_KVM_OK) {
    done->vcpu_count = s->vm.vcpu_count;
  }
  return sizeof(*done) + (size_t)done->vcpu_count * 2 * sizeof(struct tsc_vcpu_state);
}

static void* worker_main(void* argument) {
  struct tsc_vmm* s = argument;
  pthread_mutex_lock(&s->mutex);
  for (;;) {
    while (s->state == OPERATION_IDLE && !s->stopping) pthread_cond_wait(&s->changed, &s->mutex);
    if (s->state == OPERATION_IDLE) break;
    pthread_mutex_unlock(&s->mutex);
    struct tsc_wire_header request;
    memcpy(&request, s->request, sizeof(request));
    size_t size = request.type == TSC_WIRE_READ ? run_read(s) : run_write(s);
    pthread_mutex_lock(&s->mutex);
    /* Not abandoned means that the connection stands; a failure to send is seen by the connection
     * thread. */
    if (s->state == OPERATION_RUNNING) (void)send_message(s->socket, s->answer, size, NULL, 0);
    s->state = OPERATION_IDLE;
    pthread_cond_broadcast(&s->changed);
  }
  pthread_mutex_unlock(&s->mutex);
  return NULL;
}

/* ---- connection thread: registers, reads requests, watches deadlines ---- */

static void note_failure(struct tsc_vmm* s, int refused, const char* what) {
  pthread_mutex_lock(&s->mutex);
  int news = strncmp(s->last_error, what, TSC_VMM_ERROR_SIZE - 1) != 0;
  snprintf(s->last_error, sizeof(s->last_error), "%s", what);
  s->refused = refused;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  if (news) log_line(s, TSC_VMM_WARNING, "VM %s is not registered: %s", s->vm_id, what);
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

static int stopping(struct tsc_vmm* s) {
  pthread_mutex_lock(&s->mutex);
  int result = s->stopping;
  pthread_mutex_unlock(&s->mutex);
  return result;
}

static int connect_to_agent(struct tsc_vmm* s) {
  char why[TSC_VMM_ERROR_SIZE];
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr*)&s->address, sizeof(s->address)) == 0)
    return fd;
  set_error(why, "cannot connect to the agent at %.107s: %s; is tsc-agent running?",
            s->address.sun_path, strerror(errno));
  if (fd >= 0) close(fd);
  note_failure(s, 0, why);
  return -1;
}

static int send_registration(const struct tsc_vmm* s, int socket) {
  struct tsc_wire_hello hello;
  memset(&hello, 0, sizeof(hello));
  hello.header = make_header(TSC_WIRE_HELLO, 0);
  hello.vcpu_count = s->vm.vcpu_count;
  memcpy(hello.vm_id, s->vm_id, sizeof(hello.vm_id));
  if (send_message(socket, &hello, sizeof(hello), &s->vm.vm_fd, 1) != 0) return -1;
  for (uint32_t sent = 0; sent < s->vm.vcpu_count;) {
    struct tsc_wire_vcpus message;
    int fds[TSC_WIRE_FDS_PER_MESSAGE];
    memset(&message, 0, sizeof(message));
    message.header = make_header(TSC_WIRE_VCPUS, 0);
    while (sent < s->vm.vcpu_count && message.count < TSC_WIRE_FDS_PER_MESSAGE) {
      message.ids[message.count] = s->vcpus[sent].id;
      fds[message.count++] = s->vcpus[sent++].fd;
    }
    if (send_message(socket, &message, sizeof(message), fds, message.count) != 0) return -1;
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
  ssize_t length = receive_message(socket, &answer, sizeof(answer));
  if (length >= (ssize_t)sizeof(answer.header) && answer.header.magic == TSC_WIRE_MAGIC) {
    if (answer.header.type == TSC_WIRE_WELCOME && sent == 0) return 0;
    if (answer.header.type == TSC_WIRE_REFUSED && length == (ssize_t)sizeof(answer)) {
      answer.text[sizeof(answer.text) - 1] = '\0';
      set_error(why, "the agent refused it: %.200s", answer.text);
      note_failure(s, 1, why);
      return -1;
    }
  }
  set_error(why, "the agent ended the registration: %s",
            strerror(sent != 0 ? send_error : ECONNRESET));
  note_failure(s, 0, why);
  return -1;
}

/* Answers a READ or WRITE without the worker. */
static int send_fault(int socket, const struct tsc_wire_header* request,
                      const struct tsc_kvm_fault* fault) {
  if (request->type == TSC_WIRE_READ) {
    struct tsc_wire_read_done done;
    memset(&done, 0, sizeof(done));
    done.header = make_header(TSC_WIRE_READ_DONE, request->request_id);
    done.fault = *fault;
    return send_message(socket, &done, sizeof(done), NULL, 0);
  }
  struct tsc_wire_write_done done;
  memset(&done, 0, sizeof(done));
  done.header = make_header(TSC_WIRE_WRITE_DONE, request->request_id);
  done.fault = *fault;
  return send_message(socket, &done, sizeof(done), NULL, 0);
}

static struct tsc_kvm_fault blocked_fault(struct tsc_vmm* s) {
  struct tsc_kvm_fault fault;
  memset(&fault, 0, sizeof(fault));
  fault.outcome = TSC_KVM_BLOCKED;
  fault.step = __atomic_load_n(&s->progress.step, __ATOMIC_ACQUIRE);
  fault.vcpu_id = __atomic_load_n(&s->progress.vcpu_id, __ATOMIC_RELAXED);
  return fault;
}

/* Gives the request in s->incoming to the worker, or says why not. Returns -1 when the connection
 * is to be ended. */
static int start_operation(struct tsc_vmm* s, size_t length, uint64_t deadline_ns) {
  struct tsc_wire_header request;
  struct tsc_kvm_fault fault;
  memset(&fault, 0, sizeof(fault));
  memcpy(&request, s->incoming, sizeof(request));
  pthread_mutex_lock(&s->mutex);
  const int64_t deadline_ms = (int64_t)(deadline_ns / 1000000);
  if (deadline_ms <= now_ms()) { /* nobody waits for it any more: it must not happen late */
    fault.outcome = TSC_KVM_CANCELLED;
  } else if (s->running) {
    fault.outcome = TSC_KVM_RUNNING;
  } else if (s->state !=
             OPERATION_IDLE) { /* an earlier one is stuck in a vCPU that executes all the same */
    fault = blocked_fault(s);
  } else {
    memcpy(s->request, s->incoming, length);
    memset(&s->progress, 0, sizeof(s->progress));
    s->state = OPERATION_RUNNING;
    s->deadline_ms = deadline_ms;
    pthread_cond_broadcast(&s->changed);
  }
  pthread_mutex_unlock(&s->mutex);
  return fault.outcome == TSC_KVM_OK ? 0 : send_fault(s->socket, &request, &fault);
}

/* The deadline has come: take the request from the worker if he still has it. */
static int expire_operation(struct tsc_vmm* s) {
  int result = 0;
  s->deadline_ms = -1;
  pthread_mutex_lock(&s->mutex);
  /* An operation that is complete is about to answer for itself. */
  if (s->state == OPERATION_RUNNING && tsc_kvm_cancel(&s->progress)) {
    struct tsc_wire_header request;
    struct tsc_kvm_fault fault = blocked_fault(s);
    memcpy(&request, s->request, sizeof(request));
    s->state = OPERATION_ABANDONED;
    result = send_fault(s->socket, &request, &fault);
  }
  pthread_mutex_unlock(&s->mutex);
  return result;
}

static int send_status(struct tsc_vmm* s, uint64_t request_id) {
  struct tsc_wire_status_done done;
  memset(&done, 0, sizeof(done));
  done.header = make_header(TSC_WIRE_STATUS_DONE, request_id);
  pthread_mutex_lock(&s->mutex);
  done.running = (uint32_t)s->running;
  pthread_mutex_unlock(&s->mutex);
  return send_message(s->socket, &done, sizeof(done), NULL, 0);
}

/* Returns -1 when the connection is at its end, or what came is no message of this protocol. */
static int handle_request(struct tsc_vmm* s) {
  ssize_t length = receive_message(s->socket, s->incoming, TSC_WIRE_MAX_REQUEST(s->vm.vcpu_count));
  struct tsc_wire_request request;
  struct tsc_wire_write write;
  if (length < (ssize_t)sizeof(request)) return -1;
  memcpy(&request, s->incoming, sizeof(request));
  if (request.header.magic != TSC_WIRE_MAGIC || request.header.version != TSC_WIRE_VERSION)
    return -1;
  switch (request.header.type) {
    case TSC_WIRE_STATUS:
      return length == (ssize_t)sizeof(request) ? send_status(s, request.header.request_id) : -1;
    case TSC_WIRE_READ:
      return length == (ssize_t)sizeof(request)
                 ? start_operation(s, (size_t)length, request.deadline_ns)
                 : -1;
    case TSC_WIRE_WRITE:
      if (length < (ssize_t)sizeof(write)) return -1;
      memcpy(&write, s->incoming, sizeof(write));
      if ((size_t)length !=
              sizeof(write) + (size_t)write.target.vcpu_count * sizeof(struct tsc_vcpu_state) ||
          write.target.host_tsc_khz == 0) {
        return -1;
      }
      return start_operation(s, (size_t)length, write.deadline_ns);
    default:
      return -1;
  }
}

static void serve(struct tsc_vmm* s) {
  while (!stopping(s)) {
    int timeout_ms = -1;
    if (s->deadline_ms >= 0) {
      int64_t left = s->deadline_ms - now_ms();
      if (left <= 0 && expire_operation(s) != 0) return;
      timeout_ms = left > 0 ? (int)left : -1;
    }
    if (wait_readable(s, s->socket, timeout_ms) && handle_request(s) != 0) return;
  }
}

static void set_socket(struct tsc_vmm* s, int socket, int registered) {
  pthread_mutex_lock(&s->mutex);
  if (registered) {
    s->last_error[0] = '\0';
    s->refused = 0;
  }
  if (socket < 0 && s->state == OPERATION_RUNNING) { /* nobody listens any more */
    s->state = OPERATION_ABANDONED;
    (void)tsc_kvm_cancel(&s->progress);
  }
  s->socket = socket;
  s->registered = registered;
  s->deadline_ms = -1;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
}

/* Registers over `socket` and serves until the connection ends; closes it. */
static void serve_connection(struct tsc_vmm* s, int socket, int* backoff_ms) {
  if (register_vm(s, socket) == 0) {
    *backoff_ms = RECONNECT_FIRST_MS;
    set_socket(s, socket, 1);
    log_line(s, TSC_VMM_INFO, "VM %s is registered with the agent", s->vm_id);
    serve(s);
    set_socket(s, -1, 0);
    if (!stopping(s)) log_line(s, TSC_VMM_WARNING, "VM %s has lost its agent", s->vm_id);
  }
  close(socket);
}

static void* connection_main(void* argument) {
  struct tsc_vmm* s = argument;
  int backoff_ms = RECONNECT_FIRST_MS;
  if (!s->reconnects) {
    serve_connection(s, s->socket, &backoff_ms);
    return NULL;
  }
  while (!stopping(s)) {
    int socket = connect_to_agent(s);
    if (socket >= 0) serve_connection(s, socket, &backoff_ms);
    if (!stopping(s)) (void)wait_readable(s, -1, backoff_ms);
    backoff_ms = backoff_ms * 2 < RECONNECT_MAX_MS ? backoff_ms * 2 : RECONNECT_MAX_MS;
  }
  return NULL;
}

/* ---- the public face ---- */

static int valid_vm_id(const char* id) {
  size_t length = strnlen(id, TSC_WIRE_VM_ID_MAX + 1);
  if (length == 0 || length > TSC_WIRE_VM_ID_MAX) return 0;
  for (size_t i = 0; i < length; ++i) {
    char c = id[i];
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
          strchr("._:-", c)))
      return 0;
  }
  return 1;
}

static int check_config(const struct tsc_vmm_config* config, char* error) {
  const char* path = config->agent_socket;
  if (config->size != sizeof(*config)) {
    set_error(error, "config.size is %zu: start from TSC_VMM_CONFIG_INIT", config->size);
  } else if (config->vm_id == NULL || !valid_vm_id(config->vm_id)) {
    set_error(error, "config.vm_id must be 1 to %u characters of [A-Za-z0-9._:-]",
              TSC_WIRE_VM_ID_MAX);
  } else if (config->vm_fd < 0) {
    set_error(error, "config.vm_fd must be the descriptor of KVM_CREATE_VM");
  } else if (config->vcpus == NULL || config->vcpu_count < 1 ||
             config->vcpu_count > TSC_KVM_MAX_VCPUS) {
    set_error(error, "config.vcpu_count must be 1 to %u", TSC_KVM_MAX_VCPUS);
  } else if (path != NULL && strlen(path) >= sizeof(((struct sockaddr_un*)0)->sun_path)) {
    set_error(
        error,
        "config.agent_socket is longer than the 107 bytes that a Unix socket's path may have");
  } else {
    return 0;
  }
  return -1;
}

static int compare_vcpus(const void* a, const void* b) {
  uint32_t left = ((const struct tsc_kvm_vcpu*)a)->id;
  uint32_t right = ((const struct tsc_kvm_vcpu*)b)->id;
  return left < right ? -1 : left > right;
}

static int copy_vcpus(struct tsc_vmm* s, const struct tsc_vmm_config* config, char* error) {
  memcpy(s->vcpus, config->vcpus, config->vcpu_count * sizeof(*config->vcpus));
  qsort(s->vcpus, config->vcpu_count, sizeof(*s->vcpus), compare_vcpus);
  for (uint32_t i = 0; i < config->vcpu_count; ++i) {
    if (s->vcpus[i].id > TSC_KVM_MAX_VCPU_ID || s->vcpus[i].fd < 0) {
      set_error(error, "vCPU %u: the id must be at most %u and the descriptor open", s->vcpus[i].id,
                TSC_KVM_MAX_VCPU_ID);
      return -1;
    }
    if (i > 0 && s->vcpus[i].id == s->vcpus[i - 1].id) {
      set_error(error, "vCPU id %u is there twice", s->vcpus[i].id);
      return -1;
    }
  }
  s->vm.vm_fd = config->vm_fd;
  s->vm.vcpu_count = config->vcpu_count;
  s->vm.vcpus = s->vcpus;
  return 0;
}

static void free_session(struct tsc_vmm* s) {
  if (s->wake >= 0) close(s->wake);
  free(s->vcpus);
  free(s->incoming);
  free(s->request);
  free(s->answer);
  pthread_mutex_destroy(&s->mutex);
  pthread_cond_destroy(&s->changed);
  free(s);
}

static struct tsc_vmm* make_session(const struct tsc_vmm_config* config, char* error) {
  struct tsc_vmm* s = calloc(1, sizeof(*s));
  if (s == NULL) {
    set_error(error, "out of memory");
    return NULL;
  }
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&s->mutex, NULL);
  pthread_cond_init(&s->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  memcpy(s->vm_id, config->vm_id, strlen(config->vm_id));
  s->address.sun_family = AF_UNIX;
  snprintf(s->address.sun_path, sizeof(s->address.sun_path), "%s",
           config->agent_socket != NULL ? config->agent_socket : TSC_VMM_DEFAULT_SOCKET);
  s->ops = config->ops != NULL ? *config->ops : *tsc_kvm_linux_ops();
  s->log = config->log;
  s->user = config->user;
  s->socket = -1;
  s->deadline_ms = -1;
  s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  s->vcpus = calloc(config->vcpu_count, sizeof(*s->vcpus));
  s->incoming = malloc(TSC_WIRE_MAX_REQUEST(config->vcpu_count));
  s->request = malloc(TSC_WIRE_MAX_REQUEST(config->vcpu_count));
  s->answer = malloc(TSC_WIRE_MAX_ANSWER(config->vcpu_count));
  if (s->wake < 0 || !s->vcpus || !s->incoming || !s->request || !s->answer) {
    set_error(error, "out of memory or descriptors");
  } else if (copy_vcpus(s, config, error) == 0) {
    return s;
  }
  free_session(s);
  return NULL;
}

static void stop_threads(struct tsc_vmm* s, int worker_only) {
  uint64_t one = 1;
  pthread_mutex_lock(&s->mutex);
  s->stopping = 1;
  (void)tsc_kvm_cancel(&s->progress);
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  ssize_t written = write(s->wake, &one, sizeof(one));
  (void)written; /* a full eventfd wakes as well */
  if (!worker_only) pthread_join(s->connection_thread, NULL);
  pthread_join(s->worker_thread, NULL);
}

static int start_session(const struct tsc_vmm_config* config, int socket, struct tsc_vmm** out,
                         char* error) {
  *out = NULL;
  if (check_config(config, error) != 0) return -1;
  struct tsc_vmm* s = make_session(config, error);
  if (s == NULL) return -1;
  s->reconnects = socket < 0;
  s->socket = socket;
  int failed = pthread_create(&s->worker_thread, NULL, worker_main, s);
  if (!failed) {
    failed = pthread_create(&s->connection_thread, NULL, connection_main, s);
    if (failed) stop_threads(s, 1);
  }
  if (failed) {
    set_error(error, "cannot start a thread: %s", strerror(failed));
    free_session(s);
    return -1;
  }
  *out = s;
  return 0;
}

int tsc_vmm_open(const struct tsc_vmm_config* config, struct tsc_vmm** out, char* error) {
  return start_session(config, -1, out, error);
}

int tsc_vmm_open_socket(const struct tsc_vmm_config* config, int socket, struct tsc_vmm** out,
                        char* error) {
  if (socket < 0) {
    set_error(error, "the socket is not open");
    *out = NULL;
    return -1;
  }
  int result = start_session(config, socket, out, error);
  if (result != 0) close(socket);
  return result;
}

/* Waits for a change; REQUIRES the mutex. Returns 0 when `deadline_ms` has passed. */
static int wait_changed(struct tsc_vmm* s, int64_t deadline_ms) {
  struct timespec until = {deadline_ms / 1000, (deadline_ms % 1000) * 1000000};
  return pthread_cond_timedwait(&s->changed, &s->mutex, &until) != ETIMEDOUT;
}

int tsc_vmm_wait_registered(struct tsc_vmm* session, int timeout_ms, char* error) {
  int64_t deadline_ms = now_ms() + timeout_ms;
  pthread_mutex_lock(&session->mutex);
  while (!session->registered && !session->refused && wait_changed(session, deadline_ms)) {
  }
  int registered = session->registered;
  if (!registered) {
    set_error(error, "%s",
              session->last_error[0] ? session->last_error : "the agent does not answer");
  }
  pthread_mutex_unlock(&session->mutex);
  return registered ? 0 : -1;
}

void tsc_vmm_pause(struct tsc_vmm* session) {
  pthread_mutex_lock(&session->mutex);
  session->running = 0;
  pthread_mutex_unlock(&session->mutex);
}

int tsc_vmm_resume(struct tsc_vmm* session, char* error) {
  int64_t deadline_ms = now_ms() + RESUME_TIMEOUT_MS;
  pthread_mutex_lock(&session->mutex);
  while (session->state != OPERATION_IDLE && wait_changed(session, deadline_ms)) {
  }
  int idle = session->state == OPERATION_IDLE;
  if (idle) {
    session->running = 1;
  } else {
    set_error(error, "the agent's operation on this VM has not ended; stay paused and try again");
  }
  pthread_mutex_unlock(&session->mutex);
  return idle ? 0 : -1;
}

void tsc_vmm_close(struct tsc_vmm* session) {
  stop_threads(session, 0);
  free_session(session);
}
