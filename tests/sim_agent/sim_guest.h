// SimGuest: a VM on a simulated host together with the VMM that holds it: descriptors, the C
// library's session, and the ground truth of its TSCs that no agent is asked for.
//
// Threading: safe from any thread, but for destruction.
#ifndef TSC_HANDOFF_TESTS_SIM_AGENT_SIM_GUEST_H_
#define TSC_HANDOFF_TESTS_SIM_AGENT_SIM_GUEST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/vmm/tsc_kvm.h"
#include "client/vmm/tsc_vmm.h"
#include "server/base/unique_fd.h"
#include "tests/sim/sim_host.h"

namespace tsc_handoff::sim {

struct SimGuestOptions {
  std::string vm_id = "vm";
  std::vector<uint32_t> vcpu_ids = {0};  // ascending
  // Per vCPU, in the order of the ids; missing entries are 0.
  std::vector<uint64_t> phase_ticks;  // ahead of the first vCPU's usual TSC
  std::vector<uint64_t> tsc_adjust_ticks;
  std::vector<uint64_t> deadline_ticks;
  uint32_t guest_khz = 0;                        // 0: the host's
  uint64_t start_tsc_ticks = 5'000'000'000'000;  // guest TSC without phase when made
  VcpuTraits vcpu;
  int process = 1;
  bool awaits_handoff = false;  // a destination: runs only when a handoff has brought it
};

// Ids 0 .. count-1.
std::vector<uint32_t> DenseIds(uint32_t count);

class SimGuest {
 public:
  // Makes the VM and gives its vCPUs their TSCs. The VMM is not connected yet; the VM is paused.
  // `host` has real descriptors and outlives this.
  static absl::StatusOr<std::unique_ptr<SimGuest>> Make(SimHost& host,
                                                        const SimGuestOptions& options);
  // Disconnects and closes the VM.
  ~SimGuest();
  SimGuest(const SimGuest&) = delete;
  SimGuest& operator=(const SimGuest&) = delete;

  // Connects the VMM within this process; the agent's end of the socket is the result.
  absl::StatusOr<UniqueFd> ConnectPair();
  // Connects the VMM to the agent's socket, and again whenever the agent comes back.
  absl::Status Connect(const std::string& vmm_socket);
  absl::Status AwaitRegistered(absl::Duration timeout);
  // Ends the session in good order.
  void Disconnect();
  // Cuts the connection of ConnectPair at once, as a VMM's death does. May be called from a hook.
  void CutConnection();

  void Pause();
  // Gets leave to run and lets every vCPU enter the guest once, so that KVM settles its clocks.
  // FAILED_PRECONDITION with the VMM library's sentence where it has none.
  absl::Status Resume();
  // Whether the VMM was last resumed, not paused.
  bool running() const { return running_.load(); }
  // Whether the VMM holds a permit now; if not, why not. Never blocks.
  absl::Status MayRun() const;
  absl::Status AwaitPermit(absl::Duration timeout);

  // Ground truth: guest TSC of each vCPU at a moment of true time.
  std::vector<uint64_t> GuestTscAt(int64_t true_ns) const;
  uint64_t GuestTscAt(size_t i, int64_t true_ns) const;
  std::vector<uint64_t> Offsets() const;
  // The guest TSC's frequency as KVM has it; 0 where it cannot be read.
  uint32_t guest_khz() const;
  // What KVM holds, read as the VMM would read it. Blocks while a vCPU does.
  absl::StatusOr<std::vector<tsc_vcpu_state>> Read() const;

  const std::string& vm_id() const { return vm_id_; }
  const SimVm& vm() const { return vm_; }
  SimHost& host() const { return host_; }
  int vcpu_fd(size_t i) const { return vm_.vcpus[i].fd; }

 private:
  SimGuest(SimHost& host, const SimGuestOptions& options);
  absl::Status SetUp(const SimGuestOptions& options);
  tsc_vmm_config Config(const char* vmm_socket);

  SimHost& host_;
  const std::string vm_id_;
  const int process_;
  const bool awaits_handoff_;
  const SimVm vm_;
  std::atomic<bool> running_{false};
  tsc_vmm* session_ = nullptr;
  UniqueFd connection_;  // a second descriptor of the VMM's end, to cut it
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_AGENT_SIM_GUEST_H_
