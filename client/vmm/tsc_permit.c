/* The permit to run, as tsc_vmm.h explains it: what the agent last said of it, and what a capture
 * took. */
#include <stdio.h>
#include <string.h>

#include "client/vmm/tsc_session.h"

uint32_t tsc_permit_begin_registration(struct tsc_vmm* s) {
  uint32_t flags = s->awaits_handoff ? TSC_WIRE_AWAITS_HANDOFF : 0;
  pthread_mutex_lock(&s->mutex);
  if (s->running) flags |= TSC_WIRE_IS_RUNNING;
  s->permit.due = !s->running;
  pthread_mutex_unlock(&s->mutex);
  return flags;
}

static void log_word(const struct tsc_vmm* s, const struct tsc_wire_permit* word, int running) {
  const unsigned long long epoch = word->epoch;
  if (word->granted) {
    tsc_session_log(s, TSC_VMM_INFO, "VM %s may run here (epoch %llu)", s->vm_id, epoch);
  } else if (running) {
    tsc_session_log(
        s, TSC_VMM_ERROR,
        "VM %s runs, and may not run here: stop it, it may run elsewhere: %s (epoch %llu)",
        s->vm_id, word->text, epoch);
  } else {
    tsc_session_log(s, TSC_VMM_INFO, "VM %s may not run here: %s (epoch %llu)", s->vm_id,
                    word->text, epoch);
  }
}

int tsc_permit_told(struct tsc_vmm* s, const struct tsc_wire_permit* message) {
  struct tsc_wire_permit word = *message;
  if (word.granted > 1) return -1;
  word.text[sizeof(word.text) - 1] = '\0';
  pthread_mutex_lock(&s->mutex);
  struct tsc_permit* permit = &s->permit;
  const int running = s->running;
  const int news = !permit->heard || permit->granted != (int)word.granted ||
                   strcmp(permit->why_not, word.text) != 0;
  permit->heard = 1;
  permit->due = 0;
  permit->granted = (int)word.granted;
  memcpy(permit->why_not, word.text, sizeof(permit->why_not));
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  if (news || (running && !word.granted)) log_word(s, &word, running);
  if (s->on_permit != NULL) s->on_permit(s->user, (int)word.granted, word.text);
  return 0;
}

int tsc_permit_take_locked(struct tsc_vmm* s) {
  if (!s->permit.granted) return 0;
  s->permit.granted = 0;
  snprintf(s->permit.why_not, sizeof(s->permit.why_not),
           "a handoff has taken its permit, which comes back if the handoff is aborted");
  return 1;
}

int tsc_permit_known_locked(const struct tsc_vmm* s) { return s->permit.heard && !s->permit.due; }

void tsc_permit_explain_locked(const struct tsc_vmm* s, char* error) {
  if (s->permit.heard) {
    tsc_session_set_error(error, "the VM may not run here: %.180s%s",
                          s->permit.why_not[0] ? s->permit.why_not : "the agent does not say why",
                          s->registered ? "" : " (its agent is not connected)");
  } else if (s->registered) {
    tsc_session_set_error(error, "the agent has not said yet whether the VM may run");
  } else {
    tsc_session_set_error(error, "no agent has said yet that the VM may run: %.200s",
                          s->last_error[0] ? s->last_error : "it does not answer");
  }
}
