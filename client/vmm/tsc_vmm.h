/*
 * tsc_vmm: what a VMM links so that the host's tsc-agent can hand over its VM's TSCs.
 *
 * The VMM makes its VM and vCPUs, opens a session with their descriptors, and from then on tells
 * the session when the VM is paused and when it runs. The session keeps a connection to the agent's
 * Unix socket in threads of its own, registers the VM, and carries out the agent's reads and writes
 * in this process, the only one for which KVM does them. When the agent goes away it reconnects,
 * for ever, under the same VM id.
 *
 *     struct tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
 *     config.vm_id = "db-7"; config.vm_fd = vm; config.vcpus = vcpus; config.vcpu_count = 4;
 *     struct tsc_vmm *session;
 *     char why[TSC_VMM_ERROR_SIZE];
 *     if (tsc_vmm_open(&config, &session, why) != 0) { fprintf(stderr, "%s\n", why); exit(1); }
 *     tsc_vmm_resume(session, why);   // before the first KVM_RUN and after each pause
 *     ...
 *     tsc_vmm_pause(session);         // when every vCPU thread has left KVM_RUN and will not enter
 * it again
 *
 * C ABI, no dependency but pthreads; usable from C, C++, Rust. example_vmm.c shows it at work.
 *
 * Threading: every function may be called from any thread; tsc_vmm_close from one, and last.
 */
#ifndef TSC_HANDOFF_CLIENT_VMM_TSC_VMM_H_
#define TSC_HANDOFF_CLIENT_VMM_TSC_VMM_H_

#include <stddef.h>
#include <stdint.h>

#include "client/vmm/tsc_kvm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TSC_VMM_DEFAULT_SOCKET "/run/tsc-handoff/vmm.sock"
#define TSC_VMM_ERROR_SIZE 256

/* Levels of the log callback. */
enum tsc_vmm_level { TSC_VMM_DEBUG = 0, TSC_VMM_INFO = 1, TSC_VMM_WARNING = 2, TSC_VMM_ERROR = 3 };

/* A session's settings. Start from TSC_VMM_CONFIG_INIT, so that later fields get their defaults. */
struct tsc_vmm_config {
  size_t size; /* sizeof(struct tsc_vmm_config); set by TSC_VMM_CONFIG_INIT */

  /* The agent's socket for VMMs; NULL is TSC_VMM_DEFAULT_SOCKET. Longest path: 107 bytes. */
  const char* agent_socket;

  /* REQUIRED. Name of the VM, unique on its host: 1 to 128 characters of [A-Za-z0-9._:-]. */
  const char* vm_id;

  /*
   * REQUIRED. The descriptors of KVM_CREATE_VM and KVM_CREATE_VCPU, in any order of ids, 1 to 1024.
   * They stay the caller's; he keeps them open until tsc_vmm_close has returned. The array is
   * copied.
   */
  int vm_fd;
  const struct tsc_kvm_vcpu* vcpus;
  uint32_t vcpu_count;

  /* Called from the session's threads with a line of text; NULL logs nothing. Must not call back
   * into the session. */
  void (*log)(void* user, enum tsc_vmm_level level, const char* line);
  void* user;

  /* The kernel; NULL is the real one. Simulated hosts plug in here. */
  const struct tsc_kvm_ops* ops;
};

#define TSC_VMM_CONFIG_INIT \
  { sizeof(struct tsc_vmm_config), NULL, NULL, -1, NULL, 0, NULL, NULL, NULL }

struct tsc_vmm;

/*
 * Checks the configuration and starts the session; the VM counts as paused. Registration goes on in
 * the background, so that a VMM can start before its agent. Returns 0, or -1 with a sentence in
 * error[TSC_VMM_ERROR_SIZE].
 */
int tsc_vmm_open(const struct tsc_vmm_config* config, struct tsc_vmm** out, char* error);

/*
 * The same over a socket that is connected already (SOCK_SEQPACKET), for a VMM inside the agent's
 * own process. Takes ownership of the socket. Does not reconnect.
 */
int tsc_vmm_open_socket(const struct tsc_vmm_config* config, int socket, struct tsc_vmm** out,
                        char* error);

/*
 * Waits until the agent has accepted the VM. Returns 0, or -1 with a sentence in error: timed out
 * (and why the last attempt failed), or refused for good, for example because the vm_id is taken or
 * a descriptor is not of this VM.
 */
int tsc_vmm_wait_registered(struct tsc_vmm* session, int timeout_ms, char* error);

/*
 * Says that no vCPU is inside KVM_RUN and none will enter it before tsc_vmm_resume has returned.
 * From here on the agent may read and write the TSCs.
 */
void tsc_vmm_pause(struct tsc_vmm* session);

/*
 * Asks for leave to run the vCPUs. Waits for an operation of the agent that is in progress, at most
 * about a second. Returns 0: the vCPUs may enter KVM_RUN; the agent's reads and writes are refused
 * with VM_RUNNING until the next tsc_vmm_pause. Returns -1 with a sentence in error: stay paused.
 */
int tsc_vmm_resume(struct tsc_vmm* session, char* error);

/* Unregisters the VM, stops the threads, frees the session. Waits for an operation in progress. */
void tsc_vmm_close(struct tsc_vmm* session);

#ifdef __cplusplus
}
#endif

#endif /* TSC_HANDOFF_CLIENT_VMM_TSC_VMM_H_ */
