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
 *     if (tsc_vmm_wait_registered(session, 5000, why) != 0) ...   // no agent, no first permit
 *     if (tsc_vmm_resume(session, why) != 0) ...  // before the first KVM_RUN and after each pause
 *     ...
 *     tsc_vmm_pause(session);  // every vCPU thread has left KVM_RUN and will not enter it again
 *
 * The permit to run
 * -----------------
 * A VM that is handed over exists on two hosts for a while, and must run on at most one of them,
 * whoever crashes meanwhile. The two agents settle on which; the permit is how a VMM obeys them. It
 * is the agent's word that this VM may run on this host, and tsc_vmm_resume fails without it.
 *
 *   - The first word comes with the registration; before it there is no permit. A VM that has left
 *     must not come back to life because its old host's agent happens to be down, so a VMM that
 *     starts before its agent waits for it.
 *   - The permit then stays until the agent takes it. It outlives pauses, lost connections and the
 *     agent's death: a host whose agent is down goes on running its VMs, and resumes them.
 *   - Source: the capture of a handoff takes the permit from the paused VM in the same step in
 *     which it reads the TSCs, so the VM cannot be resumed in between. An aborted handoff gives it
 *     back. After the commit it does not come back.
 *   - Destination: set config.awaits_handoff. The VM has no permit before a handoff has brought it,
 *     whole and committed: tsc_vmm_wait_permit, then tsc_vmm_resume.
 *
 * What to do when tsc_vmm_resume says no: stay paused, show its sentence to the operator, and ask
 * again when config.on_permit says yes, or after tsc_vmm_wait_permit. Do not run the vCPUs without
 * permit, do not give up the VM's memory on the source: the handoff may yet be aborted. What is
 * pending, and why, is shown by `tscctl handoffs`.
 *
 * When config.on_permit says no while the VM runs, stop the vCPUs and call tsc_vmm_pause: the VM
 * may run on another host. That happens only where something went wrong before, such as a VM id
 * that was used again or an agent whose journal was put back from a copy. The library cannot stop
 * vCPUs; the agent notices a VM that goes on running, and reports it.
 *
 * A VM id is for ever. The agent of a host that a VM has left keeps the id barred there, also for a
 * new VMM under the same id, until a handoff brings the VM back. So an id names one VM for all its
 * life and is never given to another.
 *
 * C ABI, no dependency but pthreads; usable from C, C++, Rust. example_vmm.c shows it at work.
 *
 * Threading: every function may be called from any thread; tsc_vmm_close from one, and last. The
 * callbacks come from the session's threads.
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

  /*
   * 1: this VM is the destination of a handoff, and may run only when one has arrived at this very
   * session. 0, the default: a VM that starts here, or whose VMM is started anew on the host that
   * owns it.
   */
  int awaits_handoff;

  /*
   * OPTIONAL. Told each word of the agent about the permit: at each registration, and at each
   * change. `why` says why not; it is empty when granted. Not told what a capture takes from a
   * paused VM. May come before tsc_vmm_open has returned. Must return soon, since no request of the
   * agent is taken in meanwhile; of the session's functions it may call tsc_vmm_may_run alone.
   */
  void (*on_permit)(void* user, int granted, const char* why);
};

#define TSC_VMM_CONFIG_INIT \
  { sizeof(struct tsc_vmm_config), NULL, NULL, -1, NULL, 0, NULL, NULL, NULL, 0, NULL }

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
 * Waits until the agent has accepted the VM and has said whether it may run. Returns 0, whichever
 * it said, or -1 with a sentence in error: timed out (and why the last attempt failed), or refused
 * for good, for example because the vm_id is taken or a descriptor is not of this VM, or the
 * connection that was handed in has ended.
 */
int tsc_vmm_wait_registered(struct tsc_vmm* session, int timeout_ms, char* error);

/*
 * Says that no vCPU is inside KVM_RUN and none will enter it before tsc_vmm_resume has returned.
 * From here on the agent may read and write the TSCs.
 */
void tsc_vmm_pause(struct tsc_vmm* session);

/*
 * Asks for leave to run the vCPUs. Waits for an operation of the agent that is in progress, and for
 * the agent's word during a registration, at most 1.5 seconds. Returns 0: the vCPUs may enter
 * KVM_RUN; the agent's reads and writes are refused with VM_RUNNING until the next tsc_vmm_pause.
 * Returns -1 with a sentence in error: stay paused; there is no permit (see above), or an operation
 * is stuck.
 */
int tsc_vmm_resume(struct tsc_vmm* session, char* error);

/*
 * Whether there is a permit to run at this moment: 1, or 0 with a sentence in
 * why[TSC_VMM_ERROR_SIZE], which may be NULL. Never blocks. To run the VM ask tsc_vmm_resume: a
 * permit that was there may be gone a moment later.
 */
int tsc_vmm_may_run(struct tsc_vmm* session, char* why);

/*
 * Waits for a permit to run. Returns 0 when there is one; then ask tsc_vmm_resume. Returns -1 with
 * a sentence in error: timed out, and why there is none.
 */
int tsc_vmm_wait_permit(struct tsc_vmm* session, int timeout_ms, char* error);

/* Unregisters the VM, stops the threads, frees the session. Waits for an operation in progress. */
void tsc_vmm_close(struct tsc_vmm* session);

#ifdef __cplusplus
}
#endif

#endif /* TSC_HANDOFF_CLIENT_VMM_TSC_VMM_H_ */
