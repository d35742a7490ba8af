/* The public functions: checks a configuration, starts and ends a session, and what the VMM asks of
 * it. See tsc_session.h for what works behind them. */
#include "client/vmm/tsc_vmm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/vmm/tsc_session.h"

/* Longer than any operation that the agent waits for. */
#define RESUME_TIMEOUT_MS 1500

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
    tsc_session_set_error(error, "config.size is %zu: start from TSC_VMM_CONFIG_INIT",
                          config->size);
  } else if (config->vm_id == NULL || !valid_vm_id(config->vm_id)) {
    tsc_session_set_error(error, "config.vm_id must be 1 to %u characters of [A-Za-z0-9._:-]",
                          TSC_WIRE_VM_ID_MAX);
  } else if (config->vm_fd < 0) {
    tsc_session_set_error(error, "config.vm_fd must be the descriptor of KVM_CREATE_VM");
  } else if (config->vcpus == NULL || config->vcpu_count < 1 ||
             config->vcpu_count > TSC_KVM_MAX_VCPUS) {
    tsc_session_set_error(error, "config.vcpu_count must be 1 to %u", TSC_KVM_MAX_VCPUS);
  } else if (path != NULL && strlen(path) >= sizeof(((struct sockaddr_un*)0)->sun_path)) {
    tsc_session_set_error(
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
      tsc_session_set_error(error, "vCPU %u: the id must be at most %u and the descriptor open",
                            s->vcpus[i].id, TSC_KVM_MAX_VCPU_ID);
      return -1;
    }
    if (i > 0 && s->vcpus[i].id == s->vcpus[i - 1].id) {
      tsc_session_set_error(error, "vCPU id %u is there twice", s->vcpus[i].id);
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
  pthread_cond_destroy(&s->overdue);
  free(s);
}

static struct tsc_vmm* make_session(const struct tsc_vmm_config* config, char* error) {
  struct tsc_vmm* s = calloc(1, sizeof(*s));
  if (s == NULL) {
    tsc_session_set_error(error, "out of memory");
    return NULL;
  }
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&s->mutex, NULL);
  pthread_cond_init(&s->changed, &monotonic);
  pthread_cond_init(&s->overdue, &monotonic);
  pthread_condattr_destroy(&monotonic);
  memcpy(s->vm_id, config->vm_id, strlen(config->vm_id));
  s->address.sun_family = AF_UNIX;
  snprintf(s->address.sun_path, sizeof(s->address.sun_path), "%s",
           config->agent_socket != NULL ? config->agent_socket : TSC_VMM_DEFAULT_SOCKET);
  s->ops = config->ops != NULL ? *config->ops : *tsc_kvm_linux_ops();
  s->log = config->log;
  s->on_permit = config->on_permit;
  s->user = config->user;
  s->awaits_handoff = config->awaits_handoff != 0;
  s->socket = -1;
  s->deadline_ms = -1;
  s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  s->vcpus = calloc(config->vcpu_count, sizeof(*s->vcpus));
  s->incoming = malloc(TSC_WIRE_MAX_REQUEST(config->vcpu_count));
  s->request = malloc(TSC_WIRE_MAX_REQUEST(config->vcpu_count));
  s->answer = malloc(TSC_WIRE_MAX_ANSWER(config->vcpu_count));
  if (s->wake < 0 || !s->vcpus || !s->incoming || !s->request || !s->answer) {
    tsc_session_set_error(error, "out of memory or descriptors");
  } else if (getrandom(s->instance, sizeof(s->instance), 0) != (ssize_t)sizeof(s->instance)) {
    tsc_session_set_error(error, "getrandom: %s", strerror(errno));
  } else if (copy_vcpus(s, config, error) == 0) {
    return s;
  }
  free_session(s);
  return NULL;
}

static void stop_threads(struct tsc_vmm* s, int count) {
  uint64_t one = 1;
  pthread_mutex_lock(&s->mutex);
  s->stopping = 1;
  (void)tsc_kvm_cancel(&s->progress);
  pthread_cond_broadcast(&s->changed);
  pthread_cond_broadcast(&s->overdue);
  pthread_mutex_unlock(&s->mutex);
  ssize_t written = write(s->wake, &one, sizeof(one));
  (void)written; /* a full eventfd wakes as well */
  for (int i = 0; i < count; ++i) pthread_join(s->threads[i], NULL);
}

static int start_session(const struct tsc_vmm_config* config, int socket, struct tsc_vmm** out,
                         char* error) {
  *out = NULL;
  if (check_config(config, error) != 0) return -1;
  struct tsc_vmm* s = make_session(config, error);
  if (s == NULL) return -1;
  s->reconnects = socket < 0;
  s->socket = socket;
  s->led = 1; /* until both threads are there */
  int failed = 0;
  for (int i = 0; i < 2 && !failed; ++i) {
    failed = pthread_create(&s->threads[i], NULL, tsc_session_main, s);
    if (failed) stop_threads(s, i);
  }
  if (!failed) {
    pthread_mutex_lock(&s->mutex);
    s->led = 0;
    pthread_cond_signal(&s->overdue);
    pthread_mutex_unlock(&s->mutex);
  }
  if (failed) {
    tsc_session_set_error(error, "cannot start a thread: %s", strerror(failed));
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
    tsc_session_set_error(error, "the socket is not open");
    *out = NULL;
    return -1;
  }
  int result = start_session(config, socket, out, error);
  if (result != 0) close(socket);
  return result;
}

int tsc_vmm_wait_registered(struct tsc_vmm* session, int timeout_ms, char* error) {
  int64_t deadline_ms = tsc_session_now_ms() + timeout_ms;
  int done;
  pthread_mutex_lock(&session->mutex);
  while (!(done = session->registered && tsc_permit_known_locked(session)) && !session->refused &&
         !session->over && tsc_session_wait_locked(session, deadline_ms)) {
  }
  if (!done) {
    const char* why = session->last_error[0] ? session->last_error
                      : session->over        ? "the connection has ended"
                                             : "the agent does not answer";
    tsc_session_set_error(
        error, "%s", session->registered ? "the agent has not said whether the VM may run" : why);
  }
  pthread_mutex_unlock(&session->mutex);
  return done ? 0 : -1;
}

void tsc_vmm_pause(struct tsc_vmm* session) {
  pthread_mutex_lock(&session->mutex);
  session->running = 0;
  pthread_mutex_unlock(&session->mutex);
}

int tsc_vmm_resume(struct tsc_vmm* session, char* error) {
  int64_t deadline_ms = tsc_session_now_ms() + RESUME_TIMEOUT_MS;
  int result = -1;
  pthread_mutex_lock(&session->mutex);
  while ((session->state != TSC_OPERATION_IDLE || !tsc_permit_known_locked(session)) &&
         tsc_session_wait_locked(session, deadline_ms)) {
  }
  if (session->state != TSC_OPERATION_IDLE) {
    tsc_session_set_error(
        error, "the agent's operation on this VM has not ended; stay paused and try again");
  } else if (!session->permit.granted) {
    tsc_permit_explain_locked(session, error);
  } else { /* with an agent that owes its word for so long, the permit of before holds */
    session->running = 1;
    result = 0;
  }
  pthread_mutex_unlock(&session->mutex);
  return result;
}

int tsc_vmm_may_run(struct tsc_vmm* session, char* why) {
  pthread_mutex_lock(&session->mutex);
  const int granted = session->permit.granted;
  if (!granted) tsc_permit_explain_locked(session, why);
  pthread_mutex_unlock(&session->mutex);
  return granted;
}

int tsc_vmm_wait_permit(struct tsc_vmm* session, int timeout_ms, char* error) {
  int64_t deadline_ms = tsc_session_now_ms() + timeout_ms;
  pthread_mutex_lock(&session->mutex);
  while ((!session->permit.granted || !tsc_permit_known_locked(session)) &&
         tsc_session_wait_locked(session, deadline_ms)) {
  }
  const int granted = session->permit.granted;
  if (!granted) tsc_permit_explain_locked(session, error);
  pthread_mutex_unlock(&session->mutex);
  return granted ? 0 : -1;
}

void tsc_vmm_close(struct tsc_vmm* session) {
  stop_threads(session, 2);
  free_session(session);
}
