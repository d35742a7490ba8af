// SimNode: one simulated host with a real agent on it, and the VMs there. The agent is the one that
// is delivered; what it stands on is simulated: KVM, TSC, wall clock and the clock's stated
// quality.
//
// Threading: safe from any thread, but for StartAgent, StopAgent and destruction.
#ifndef TSC_HANDOFF_TESTS_SIM_AGENT_SIM_NODE_H_
#define TSC_HANDOFF_TESTS_SIM_AGENT_SIM_NODE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "server/agent/agent.h"
#include "server/agent/host_vms.h"
#include "server/clock/clock_quality.h"
#include "server/journal/journal.h"
#include "tests/sim/sim_host.h"
#include "tests/sim_agent/sim_guest.h"

namespace tsc_handoff::sim {

// What a host says of its wall clock; may be changed while its agent runs.
class ClockScript {
 public:
  void Trust(int64_t error_bound_ns);
  void Distrust(const std::string& why);
  void SetLeapSecond(bool leap_second);
  clock::ClockQuality Read() const;

 private:
  mutable std::mutex mutex_;
  clock::ClockQuality quality_;  // guarded by mutex_
};

// An agent's own defaults, but that it serves nothing except gRPC on a port of its own choice.
agent::Options QuietAgent();

struct SimNodeOptions {
  std::string name = "sim";
  SimHostOptions host;  // always with real descriptors
  agent::Options agent = QuietAgent();
  int64_t clock_bound_ns = 20'000;
  // Refuse what are no descriptors of one simulated VM; else anything is taken, for tests that
  // speak the protocol by hand and have none.
  bool check_descriptors = false;
  std::string tsc_unstable_reason;
  std::string kvm_unavailable_reason;
  // The agent's journal, which outlives the node. Empty: one in a directory of the node's own,
  // which outlives the agent only.
  std::string journal_path;
  // Makes the VMs that nobody registers, at each start of the agent. Null: there are none.
  std::function<std::unique_ptr<agent::HostVms>()> make_host_vms = nullptr;
  // Opens the journal instead, at each start of the agent.
  std::function<absl::StatusOr<std::unique_ptr<journal::Journal>>()> open_journal = nullptr;
};

class SimNode {
 public:
  static absl::StatusOr<std::unique_ptr<SimNode>> Start(std::shared_ptr<SimTime> time,
                                                        SimNodeOptions options);
  ~SimNode();
  SimNode(const SimNode&) = delete;
  SimNode& operator=(const SimNode&) = delete;

  // A VM that is registered with the agent, paused. Connected in process, or over the agent's
  // socket where it has one and `in_process` is false.
  absl::StatusOr<std::unique_ptr<SimGuest>> AddGuest(const SimGuestOptions& options,
                                                     bool in_process = true);

  // Anew, with the journal that an earlier one left.
  absl::Status StartAgent();
  void StopAgent();

  // "127.0.0.1:PORT"
  std::string address() const;
  const SimNodeOptions& options() const { return options_; }
  SimHost& host() { return host_; }
  ClockScript& clock() { return *clock_; }
  agent::Agent& agent() { return *agent_; }

 private:
  SimNode(std::shared_ptr<SimTime> time, SimNodeOptions options);
  absl::StatusOr<std::unique_ptr<journal::Journal>> OpenJournal();

  const SimNodeOptions options_;
  SimHost host_;
  const std::shared_ptr<ClockScript> clock_;
  std::string directory_;  // of the journal, where it is the node's own
  std::unique_ptr<agent::Agent> agent_;
};

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_AGENT_SIM_NODE_H_
