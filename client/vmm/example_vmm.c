/*
 * A VMM in 80 lines: makes a VM with two vCPUs, registers it with the host's tsc-agent, runs the
 * guest, and pauses it, so that an operator can hand its TSCs over: tscctl get example.
 * Usage: example_vmm [AGENT_SOCKET]; needs /dev/kvm and a running tsc-agent.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "client/vmm/tsc_vmm.h"

#define VCPUS 2
#define GUEST_EXITS 1000 /* how often each vCPU runs before the VM is paused */

/* 1 when the agent said, while the VM ran, that it must not. Set by the session's thread. */
static atomic_int must_stop;

static int check(int result, const char* what) {
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

static void check_session(int result, const char* why) {
  if (result == 0) return;
  fprintf(stderr, "example_vmm: %s\n", why);
  exit(1);
}

static void on_permit(void* user, int granted, const char* why) {
  (void)user;
  if (!granted) fprintf(stderr, "example_vmm: the VM may not run here: %s\n", why);
  atomic_store(&must_stop, !granted); /* a real VMM kicks its vCPUs out of KVM_RUN as well */
}

int main(int argc, char** argv) {
  static const unsigned char guest[] = {0xe6, 0x10, 0xeb,
                                        0xfc}; /* again: out %al, $0x10; jmp again */
  char why[TSC_VMM_ERROR_SIZE];
  int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  void* memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memcpy(memory, guest, sizeof(guest));
  struct kvm_userspace_memory_region region = {0, 0, 0x1000, 4096, (uintptr_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");

  struct tsc_kvm_vcpu vcpus[VCPUS];
  for (uint32_t i = 0; i < VCPUS; ++i) {
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
    vcpus[i].id = i;
    vcpus[i].fd = check(ioctl(vm, KVM_CREATE_VCPU, i), "KVM_CREATE_VCPU");
    check(ioctl(vcpus[i].fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    check(ioctl(vcpus[i].fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    check(ioctl(vcpus[i].fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
  }

  struct tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  config.agent_socket = argc > 1 ? argv[1] : NULL;
  config.vm_id = "example";
  config.vm_fd = vm;
  config.vcpus = vcpus;
  config.vcpu_count = VCPUS;
  config.on_permit = on_permit;
  struct tsc_vmm* session;
  check_session(tsc_vmm_open(&config, &session, why), why); /* the VM counts as paused */
  check_session(tsc_vmm_wait_registered(session, 5000, why), why);

  check_session(tsc_vmm_resume(session, why), why); /* leave to run; fails without a permit */
  /* A real VMM has one thread per vCPU. */
  for (int exits = 0; exits < GUEST_EXITS * VCPUS && !atomic_load(&must_stop); ++exits)
    check(ioctl(vcpus[exits % VCPUS].fd, KVM_RUN, 0), "KVM_RUN");
  tsc_vmm_pause(session); /* no vCPU is in KVM_RUN, and none will enter it */

  printf("VM example is registered and paused; try: tscctl get example. Enter ends it.\n");
  fflush(stdout);
  (void)getchar();
  tsc_vmm_close(session);
  return 0;
}
