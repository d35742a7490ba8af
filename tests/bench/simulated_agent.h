// SimulatedAgent: the agent on a simulated host, in a process of its own, as on a real host.
//
// Threading: Start while this process has one thread; it forks.
#ifndef TSC_HANDOFF_TESTS_BENCH_SIMULATED_AGENT_H_
#define TSC_HANDOFF_TESTS_BENCH_SIMULATED_AGENT_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"
#include "tests/sim/sim_host.h"
#include "tests/sim/sim_time.h"

namespace tsc_handoff::bench {

class SimulatedAgent {
 public:
  // `host` is also what the caller makes his own SimHost of; with the same `time` the two are one
  // host.
  static absl::StatusOr<std::unique_ptr<SimulatedAgent>> Start(
      const std::shared_ptr<sim::SimTime>& time, const sim::SimHostOptions& host);
  // Ends the process and removes its files.
  ~SimulatedAgent();
  SimulatedAgent(const SimulatedAgent&) = delete;
  SimulatedAgent& operator=(const SimulatedAgent&) = delete;

  std::string grpc_address() const { return "unix:" + directory_ + "/agent.sock"; }
  std::string vmm_socket() const { return directory_ + "/vmm.sock"; }

 private:
  SimulatedAgent() = default;
  // The child's life: serves until the other end of `lifeline` is closed.
  [[noreturn]] void Serve(const std::shared_ptr<sim::SimTime>& time,
                          const sim::SimHostOptions& host, int lifeline) const;

  std::string directory_;
  pid_t pid_ = -1;
  UniqueFd lifeline_;
};

}  // namespace tsc_handoff::bench

#endif  // TSC_HANDOFF_TESTS_BENCH_SIMULATED_AGENT_H_
