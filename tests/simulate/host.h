// Host: a simulated host with its clocks, disk and VMMs, and the agent on it, which is the
// delivered one from its RPC handlers down; it crashes and starts again.
//
// Threading: one thread. Reading a clock, writing the journal and asking a VMM take time, in which
// other events happen: another call to the same agent, or its crash, among them.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_HOST_H_
#define TSC_HANDOFF_TESTS_SIMULATE_HOST_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/handoff/handoff_controller.h"
#include "server/handoff/limits.h"
#include "server/host/host_facts.h"
#include "tests/clock_sim/sim_clocks.h"
#include "tests/simulate/context.h"
#include "tests/simulate/sim_disk.h"
#include "tests/simulate/vmm.h"

namespace tsc_handoff::simulate {

class Agent;
class Checker;

// Thrown through the agent's code at the moment of its crash.
struct AgentCrash {};

struct HostOptions {
  int number = 0;
  uint32_t tsc_khz = 2'600'000;
  bool can_scale = false;
  int64_t tsc_error_ppb = 0;
  int64_t clock_rate_ppb = 0;
  int64_t clock_error_ps = 0;
  handoff::Limits limits;
  handoff::Mutations mutations;
  bool skip_sync = false;  // a deliberate bug: acknowledges what is not on the disk
};

// The host's wall clock as its daemon sees it: an honest bound, or none.
class SimClockView final : public clock::ClockView {
 public:
  SimClockView(Context& context, clock_sim::SimClocks& clocks, uint32_t tsc_khz)
      : context_(context), clocks_(clocks), tsc_khz_(tsc_khz) {}
  clock::ClockSnapshot Snapshot() override;

 private:
  void Poll();

  Context& context_;
  clock_sim::SimClocks& clocks_;
  const uint32_t tsc_khz_;
  int64_t polled_at_ps_ = -1;
  clock::ClockSnapshot snapshot_;
};

class Host {
 public:
  Host(Context& context, Checker& checker, const HostOptions& options);
  ~Host();

  int number() const { return options_.number; }
  const std::string& name() const { return facts_.host_name; }
  const HostOptions& options() const { return options_; }
  const host::HostFacts& facts() const { return facts_; }
  const std::string& agent_id() const { return disk_.agent_id(); }
  Context& context() { return context_; }
  Checker& checker() { return checker_; }
  clock_sim::SimClocks& clocks() { return clocks_; }
  SimClockView& clock_view() { return clock_view_; }
  SimDisk& disk() { return disk_; }

  // Null while it is down.
  const std::shared_ptr<Agent>& agent() const { return agent_; }
  void StartAgent();
  void CrashAgent(const char* where);

  // Null when there is none.
  VmmPtr FindVmm(const std::string& vm_id) const;
  const std::map<std::string, VmmPtr>& vmms() const { return vmms_; }
  // A VMM of that VM, in the place of another one that dies.
  VmmPtr StartVmm(const std::string& vm_id, uint32_t guest_khz, std::vector<uint64_t> offsets,
                  bool awaits);
  void KillVmm(const VmmPtr& vmm);
  // Ends the connection; the VMM connects again some time later, while it lives.
  void Disconnect(const VmmPtr& vmm);
  void Connect(const VmmPtr& vmm);
  // The agent has sent it a permit.
  void PermitSent(const VmmPtr& vmm);
  // The VM runs, if its VMM has the permit.
  void TryResume(const VmmPtr& vmm);

 private:
  void SweepLater(const std::shared_ptr<Agent>& agent);

  Context& context_;
  Checker& checker_;
  const HostOptions options_;
  host::HostFacts facts_;
  clock_sim::SimClocks clocks_;
  SimClockView clock_view_;
  SimDisk disk_;
  std::map<std::string, VmmPtr> vmms_;
  std::shared_ptr<Agent> agent_;
  uint64_t connections_ = 0;
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_HOST_H_
