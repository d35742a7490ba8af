// LocalAgent: the parts of the agent below gRPC, in this process. What they take, against the bare
// loop on one side and the RPC on the other, tells where an RPC's time goes.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_BENCH_LOCAL_AGENT_H_
#define TSC_HANDOFF_TESTS_BENCH_LOCAL_AGENT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/clock/clock_quality.h"
#include "server/clock/host_clock.h"
#include "server/handoff/tsc_operations.h"
#include "server/host/host_facts.h"
#include "server/port/descriptor_check.h"
#include "server/port/vmm_listener.h"
#include "server/registry/vm_registry.h"
#include "tests/bench/test_vm.h"

namespace tsc_handoff::bench {

class LocalAgent {
 public:
  // Registers `vm`, which outlives this.
  static absl::StatusOr<std::unique_ptr<LocalAgent>> Start(
      const TestVm& vm, host::HostFacts facts, std::unique_ptr<clock::HostClock> host_clock);
  ~LocalAgent();

  // The port alone: over the socket to the VMM's threads and back.
  absl::Status PortRead();
  absl::Status PortWrite(const port::ApplyOrder& order);

  // The port, the reference and the arithmetic.
  absl::Status Capture();
  // Applies what the last Capture gave. REQUIRES: a Capture before.
  absl::Status Apply();

 private:
  LocalAgent(host::HostFacts facts, std::unique_ptr<clock::HostClock> host_clock);

  const host::HostFacts facts_;
  const std::unique_ptr<clock::HostClock> host_clock_;
  const std::unique_ptr<clock::ClockView> clock_;
  const std::unique_ptr<handoff::PeerProber> prober_;
  const handoff::Limits limits_;
  registry::VmRegistry registry_{1};
  const std::unique_ptr<port::DescriptorCheck> check_;
  port::VmmListener listener_;
  handoff::Timekeeper timekeeper_;
  handoff::TscOperations operations_;
  std::unique_ptr<Session> session_;  // ends before the listener
  time::TscState captured_;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_LOCAL_AGENT_H_
