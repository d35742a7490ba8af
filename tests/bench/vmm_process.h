// VmmProcess: a VMM of the benchmark, in a process of its own. It makes a VM, registers it with the
// agent at a socket as a cooperating VMM does, and then its first thread waits in ppoll, as a VMM's
// main loop does: the thread that the attached port borrows. On request that thread runs the bare
// loop of ioctls itself.
//
// Threading: of one thread. Start forks: no other thread may run yet.
#ifndef TSC_HANDOFF_TESTS_BENCH_VMM_PROCESS_H_
#define TSC_HANDOFF_TESTS_BENCH_VMM_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/vmm/tsc_kvm.h"
#include "server/base/unique_fd.h"
#include "server/port/vm_port.h"

namespace tsc_handoff::bench {

struct VmmOptions {
  bool simulated = false;
  int64_t ioctl_ns = 0;  // of a simulated host: what each ioctl takes at least
  uint32_t vcpus = 1;
  uint32_t host_khz = 0;
  std::string vm_id;
  std::string agent_socket;
};

class VmmProcess {
 public:
  static absl::StatusOr<std::unique_ptr<VmmProcess>> Start(const VmmOptions& options);
  VmmProcess(const VmmProcess&) = delete;
  VmmProcess& operator=(const VmmProcess&) = delete;
  ~VmmProcess();

  pid_t pid() const { return pid_; }
  // Its VM as it sees it itself.
  int vm_fd() const { return vm_fd_; }
  const std::vector<tsc_kvm_vcpu>& vcpus() const { return vcpus_; }
  // Where its struct tsc_kvm_ops of a simulated host is; 0 with real KVM.
  uint64_t ops() const { return ops_; }

  // Until its agent has registered it.
  absl::Status AwaitRegistered();
  // One bare loop in it; how long that took, in ns.
  absl::StatusOr<int64_t> BareCapture();
  absl::StatusOr<int64_t> BareApply();
  // What applies the VM's present state, with kvmclock going on.
  absl::StatusOr<port::ApplyOrder> Order();

 private:
  VmmProcess() = default;

  pid_t pid_ = -1;
  UniqueFd socket_;
  int vm_fd_ = -1;
  std::vector<tsc_kvm_vcpu> vcpus_;
  uint64_t ops_ = 0;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_VMM_PROCESS_H_
