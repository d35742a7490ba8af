// TestVm: the VM whose TSCs the benchmark reads and writes, on this machine's KVM or on a simulated
// host, and the session that registers it with an agent. Its vCPUs never execute. Their offsets
// differ, so that nothing can be left out of a state.
//
// Threading: one thread at a time, and none while an agent works on the VM.
#ifndef TSC_HANDOFF_TESTS_BENCH_TEST_VM_H_
#define TSC_HANDOFF_TESTS_BENCH_TEST_VM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/vmm/tsc_kvm.h"
#include "client/vmm/tsc_vmm.h"
#include "server/base/unique_fd.h"
#include "tests/sim/sim_host.h"

namespace tsc_handoff::bench {

class TestVm {
 public:
  virtual ~TestVm() = default;
  virtual tsc_kvm_vm view() const = 0;
  virtual const tsc_kvm_ops* ops() const = 0;
  // CLOCK_REALTIME of the VM's host.
  virtual int64_t RealtimeNs() const = 0;
};

absl::StatusOr<std::unique_ptr<TestVm>> MakeRealVm(uint32_t vcpus);

// `host` has real descriptors and outlives the VM. Every ioctl takes at least `ioctl_ns` of real
// time.
absl::StatusOr<std::unique_ptr<TestVm>> MakeSimulatedVm(sim::SimHost& host, uint32_t vcpus,
                                                        int64_t ioctl_ns);

// The bare loop of ioctls that GetTscState and SetTscState rest on, in this process, with the
// memory that it needs allocated beforehand.
class BareLoop {
 public:
  BareLoop(const TestVm& vm, uint32_t host_khz);

  absl::Status Capture();
  // Writes what the last Capture read; kvmclock goes on from its reading, as in a handoff.
  absl::Status Apply();

  const std::vector<tsc_vcpu_state>& states() const { return states_; }
  // What Apply gives the kernel.
  tsc_kvm_target Target() const;
  // Makes the offsets differ by 1009 ticks from vCPU to vCPU.
  absl::Status MakeUnequal();

 private:
  absl::Status Apply(const tsc_kvm_target& target);
  absl::Status ToStatus(const char* what, const tsc_kvm_fault& fault) const;

  const TestVm& vm_;
  const uint32_t host_khz_;
  std::vector<tsc_vcpu_state> states_;
  std::vector<tsc_vcpu_state> before_;
  std::vector<tsc_vcpu_state> after_;
  tsc_kvmclock kvmclock_ = {};
  uint64_t realtime_ns_ = 0;  // at the middle of kvmclock_'s bracket
};

// The VM's registration with one agent.
class Session {
 public:
  // Over the agent's socket.
  static absl::StatusOr<std::unique_ptr<Session>> Connect(const TestVm& vm,
                                                          const std::string& vm_id,
                                                          const std::string& vmm_socket);
  // Within this process; `agents_end` receives the agent's end of the connection.
  static absl::StatusOr<std::unique_ptr<Session>> ConnectPair(const TestVm& vm,
                                                              const std::string& vm_id,
                                                              UniqueFd& agents_end);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  absl::Status AwaitRegistered();

 private:
  explicit Session(tsc_vmm* session) : session_(session) {}
  tsc_vmm* const session_;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_TEST_VM_H_
