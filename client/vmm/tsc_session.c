#include "client/vmm/tsc_session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

int64_t tsc_session_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void tsc_session_set_error(char* error, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (error != NULL) vsnprintf(error, TSC_VMM_ERROR_SIZE, format, arguments);
  va_end(arguments);
}

void tsc_session_log(const struct tsc_vmm* s, enum tsc_vmm_level level, const char* format, ...) {
  if (s->log == NULL) return;
  char line[TSC_VMM_ERROR_SIZE + TSC_WIRE_VM_ID_SIZE + 128];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  s->log(s->user, level, line);
}

int tsc_session_stopping(struct tsc_vmm* s) {
  pthread_mutex_lock(&s->mutex);
  int result = s->stopping;
  pthread_mutex_unlock(&s->mutex);
  return result;
}

int tsc_session_wait_locked(struct tsc_vmm* s, int64_t deadline_ms) {
  struct timespec until = {deadline_ms / 1000, (deadline_ms % 1000) * 1000000};
  return pthread_cond_timedwait(&s->changed, &s->mutex, &until) != ETIMEDOUT;
}
