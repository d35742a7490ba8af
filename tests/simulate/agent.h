// Agent: one life of a simulated host's agent: the delivered RPC handlers, controller, operations,
// timekeeper and registry, on a simulated journal and simulated ports.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_AGENT_H_
#define TSC_HANDOFF_TESTS_SIMULATE_AGENT_H_

#include <string>

#include "server/handoff/handoff_controller.h"
#include "server/handoff/timekeeper.h"
#include "server/handoff/tsc_operations.h"
#include "server/journal/journal.h"
#include "server/registry/vm_registry.h"
#include "server/service/rpc_handlers.h"
#include "tests/simulate/host.h"

namespace tsc_handoff::simulate {

// The host's clocks, for an agent that may die while it reads them.
class AgentClock final : public clock::HostClock {
 public:
  explicit AgentClock(Agent& agent) : agent_(agent) {}
  uint64_t ReadTsc() override;
  int64_t ReadRealtimeNs() override;
  int64_t ReadMonotonicNs() override;
  void SleepNs(int64_t ns) override;

 private:
  Agent& agent_;
};

class SimJournal final : public journal::Journal {
 public:
  explicit SimJournal(Agent& agent) : agent_(agent) {}
  const std::string& agent_id() const override;
  absl::StatusOr<journal::Contents> Load() override;
  absl::Status Write(const journal::Change& change) override;
  // Compaction is the simulation's own, see Simulation::Compact: days are too long for its worlds.
  absl::StatusOr<std::vector<journal::HandoffKey>> Compact(int64_t) override {
    return std::vector<journal::HandoffKey>();
  }
  void set_on_commit(std::function<void(int64_t)>) override {}
  std::string unavailable_reason() const override { return unavailable_reason_; }

 private:
  Agent& agent_;
  std::string unavailable_reason_;
};

class NoProber final : public handoff::PeerProber {
 public:
  absl::StatusOr<handoff::PeerAnswers> Probe(const std::string& address,
                                             int64_t budget_ns) override;
};

class Agent {
 public:
  explicit Agent(Host& host);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  Host& host() { return host_; }
  Context& context() { return host_.context(); }
  service::RpcHandlers& handlers() { return handlers_; }
  handoff::HandoffController& controller() { return controller_; }
  registry::VmRegistry& registry() { return registry_; }

  // A place at which the agent may die. Throws AgentCrash if it does, or is dead already.
  void MayCrash(const char* where);
  void ThrowIfDead() const {
    if (dead_) throw AgentCrash();
  }
  void Die() { dead_ = true; }
  bool dead() const { return dead_; }
  // Time that the agent waits for something else.
  void Pass(int64_t ps);

 private:
  handoff::HandoffController::Parts ControllerParts();

  Host& host_;
  bool dead_ = false;
  AgentClock clock_;
  SimJournal journal_;
  NoProber prober_;
  registry::VmRegistry registry_;
  handoff::Timekeeper timekeeper_;
  handoff::TscOperations operations_;
  handoff::HandoffController controller_;
  service::RpcHandlers handlers_;
};

// The agent's way to one VMM, for as long as a connection lasts.
class SimPort final : public port::VmPort {
 public:
  SimPort(Agent& agent, VmmPtr vmm)
      : agent_(agent), vmm_(std::move(vmm)), mine_(vmm_->connection) {}
  absl::StatusOr<port::Capture> ReadAll(port::Hold hold) override;
  absl::StatusOr<port::Applied> WriteAll(const port::ApplyOrder& order, port::Hold hold) override;
  void SendPermit(const port::Permit& permit) override;
  absl::StatusOr<bool> IsPaused() override;

 private:
  // A request arrives, an answer comes back; or the connection breaks. Either may be the agent's
  // last moment.
  absl::Status Reach(const char* what);
  absl::Status Return(const char* what);
  absl::Status CheckRefusal(bool hold);
  std::vector<tsc_vcpu_state> States() const;

  Agent& agent_;
  const VmmPtr vmm_;
  const uint64_t mine_;
};

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_AGENT_H_
