// A VMM of one thread, which executes a vCPU over and over and checks after each KVM_RUN that
// nothing of its own has changed: all registers, the base of its thread-local storage, its signal
// mask, and that KVM_RUN said nothing but what Linux has it say. Beside the VM that runs it has
// another one, which never does.
//
// It shares memory with the test, and is controlled by that alone. For tests, on a real /dev/kvm.
//
// Threading: of one test's thread.
#ifndef TSC_HANDOFF_TESTS_ATTACH_KVM_RUN_CHILD_H_
#define TSC_HANDOFF_TESTS_ATTACH_KVM_RUN_CHILD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "server/attach/attached_port.h"
#include "server/attach/testing/child.h"

namespace tsc_handoff::attach {

enum class GuestCode {
  kCounts,  // never leaves the guest by itself
  kHalts,   // waits in the kernel for an interrupt that never comes
};

class KvmRunChild {
 public:
  // `own_mask`: KVM_RUN has a signal mask of its own (KVM_SET_SIGNAL_MASK).
  KvmRunChild(GuestCode code, bool own_mask);
  ~KvmRunChild();
  KvmRunChild(const KvmRunChild&) = delete;
  KvmRunChild& operator=(const KvmRunChild&) = delete;

  pid_t pid() const { return child_->pid(); }
  // Empty, or why it has not come to its first KVM_RUN.
  std::string NotReady() const;

  AttachedVm running_vm() const;
  AttachedVm paused_vm() const;

  // How far the guest has counted. Modulo 2^32.
  uint32_t count() const;
  // How often KVM_RUN has answered EINTR.
  uint64_t interruptions() const;
  // Whether the thread waits in ioctl(KVM_RUN) of the VM that runs; never so while the guest
  // counts.
  bool WaitsInKvmRun() const;

  // Ends it: empty if all was well.
  std::string Finish();

  struct Shared;

 private:
  Shared* shared_;
  std::unique_ptr<Child> child_;
};

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_TESTS_ATTACH_KVM_RUN_CHILD_H_
