// SimHost: a simulated host, a behaving fake of KVM on the level of raw ioctls. It plugs in
// wherever a `struct tsc_kvm_ops` is taken (client/vmm/tsc_kvm.h) and behaves as Linux 6.1 does;
// the contract suite (tests/contract) runs on it and on real KVM, and where they differ the fake is
// wrong.
//
//     auto time = std::make_shared<sim::SimTime>();
//     sim::SimHost host(time, {.clock = {.tsc_khz = 3'500'000}, .kvm = {.vendor =
//     sim::Vendor::kSvm}}); sim::SimVm vm = host.CreateVm({.vcpu_ids = {0, 1, 2}});
//     tsc_kvm_capture(host.OpsFor(0), &vm.view(), ...);
//
// A VM belongs to the process that made it; other processes' ops get EIO, as KVM compares the
// address space. Errors, delays and vCPUs that are executing can be injected.
//
// Threading: safe from any thread. An ioctl on a blocked vCPU blocks its thread and no other.
#ifndef TSC_HANDOFF_TESTS_SIM_SIM_HOST_H_
#define TSC_HANDOFF_TESTS_SIM_SIM_HOST_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "client/vmm/tsc_kvm.h"
#include "tests/sim/fault_plan.h"
#include "tests/sim/host_clock.h"
#include "tests/sim/kvm_model.h"
#include "tests/sim/sim_time.h"

namespace tsc_handoff::sim {

struct SimHostOptions {
  HostClockOptions clock = {};
  KvmTraits kvm = {};
  // True time that each ioctl takes; it acts in the middle. KVM's own is about 1 us.
  int64_t ioctl_ns = 1000;
  // Hand out real descriptors (memfds named kvm-vm and kvm-vcpu:N), which can travel over a socket.
  // Those of one VM begin with the same 8 bytes, which are never 0.
  // Otherwise numbers that no descriptor has, which cost nothing.
  bool real_fds = false;
  // Keep every ioctl for Calls(). Off for benchmarks, where it would grow without end.
  bool record_calls = true;
};

struct SimVmOptions {
  int process = 0;
  std::vector<uint32_t> vcpu_ids = {0};  // ascending
  VcpuTraits vcpu = {};
};

// The descriptors of one VM, as a VMM would hold them.
struct SimVm {
  int vm_fd = -1;
  std::vector<tsc_kvm_vcpu> vcpus;

  // Valid while this object is not changed or moved.
  tsc_kvm_vm view() const { return {vm_fd, static_cast<uint32_t>(vcpus.size()), vcpus.data()}; }
};

class SimHost {
 public:
  explicit SimHost(std::shared_ptr<SimTime> time, SimHostOptions options = {});
  ~SimHost();
  SimHost(const SimHost&) = delete;
  SimHost& operator=(const SimHost&) = delete;

  // The kernel as this process sees it. Lives as long as the host.
  const tsc_kvm_ops* OpsFor(int process);

  SimVm CreateVm(const SimVmOptions& options);
  // Closes the VM's descriptors and forgets it. REQUIRES: no ioctl on it is under way.
  void DestroyVm(const SimVm& vm);
  // Makes the VM belong to another process, whose ops work on it from now on.
  void SetOwner(const SimVm& vm, int process);

  // A vCPU enters the guest and leaves it again.
  void Run(int vcpu_fd);
  void RunAll(const SimVm& vm);
  // From Block() to Unblock() the vCPU is inside KVM_RUN: an ioctl on it waits.
  void Block(int vcpu_fd);
  void Unblock(int vcpu_fd);
  // Waits until `waiters` threads wait for blocked vCPUs. Returns false after `timeout_ms`.
  bool AwaitBlockedCalls(int waiters, int timeout_ms);

  void Inject(const Fault& fault);
  void ClearFaults();
  // Called before each ioctl, with no lock held; nullptr removes it.
  void SetHook(std::function<void(const SimCall&)> hook);

  // The ioctls so far, in order. Blocked ones are included.
  std::vector<SimCall> Calls() const;
  void ClearCalls();

  // Ground truth, at the present true time.
  uint64_t GuestTsc(int vcpu_fd) const;
  uint64_t Offset(int vcpu_fd) const;
  uint64_t Ratio(int vcpu_fd) const;
  bool CatchUp(int vcpu_fd) const;
  uint64_t KvmclockNs(int vm_fd) const;
  bool MasterClock(int vm_fd) const;

  HostClock& clock() { return clock_; }
  const KvmTraits& traits() const { return options_.kvm; }

 private:
  struct Process {
    SimHost* host;
    int id;
    tsc_kvm_ops ops;
  };
  struct Vm {
    int process;
    int fd;
    KvmModel model;
  };
  // What a descriptor means; vm null: not open.
  struct Descriptor {
    static constexpr uint32_t kIsVm = UINT32_MAX;
    Vm* vm = nullptr;
    uint32_t vcpu = kIsVm;
  };

  static int IoctlEntry(void* ctx, int fd, unsigned long request, void* arg);
  static uint64_t RdtscEntry(void* ctx);

  int Ioctl(int process, int fd, unsigned long request, void* arg);
  int Execute(const Descriptor& descriptor, unsigned long request, void* arg, const Fault* fault);
  int VcpuIoctl(KvmModel& model, size_t vcpu, unsigned long request, void* arg, const Fault* fault);
  int VmIoctl(KvmModel& model, unsigned long request, void* arg);
  void WaitUntilNotRunning(std::unique_lock<std::mutex>& lock, int fd);

  int NewFd(const Descriptor& descriptor);
  void CloseFd(int fd);
  Descriptor Find(int fd) const;
  // Find() for ground truth, where a wrong descriptor is a mistake in the test.
  Descriptor Must(int fd) const;

  const SimHostOptions options_;
  HostClock clock_;
  const int fake_fd_base_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::map<int, std::unique_ptr<Process>> processes_;
  std::unordered_map<int, std::unique_ptr<Vm>> vms_;  // by VM descriptor
  std::vector<Descriptor> fake_fds_;
  std::unordered_map<int, Descriptor> real_fds_;
  std::set<int> blocked_;
  int waiting_ = 0;
  FaultPlan faults_;
  std::function<void(const SimCall&)> hook_;
  std::vector<SimCall> calls_;
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_SIM_HOST_H_
