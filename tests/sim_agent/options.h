// sim_agent's command line.
//
// Threading: plain values and a pure function.
#ifndef TSC_HANDOFF_TESTS_SIM_AGENT_OPTIONS_H_
#define TSC_HANDOFF_TESTS_SIM_AGENT_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/agent/options.h"
#include "tests/sim_agent/sim_node.h"

namespace tsc_handoff::sim {

enum class Role {
  kHosts,  // hosts, agents and VMs, all in this process
  kAgent,  // one host and its agent; the VMs are elsewhere
  kVmms,   // VMs that register with an agent elsewhere
};

struct CommandLine {
  Role role = Role::kHosts;
  std::vector<SimNodeOptions> hosts;
  std::string vmm_socket;
  bool metrics = false;
  // Of role agent: tsc-agent's own settings, read from a file, and the arguments to read it again.
  // No arguments: there are none.
  std::vector<std::string> agent_arguments;
  agent::CommandLine agent;
  std::string log_level = "warn";
  // Of role vmms.
  uint32_t vms = 1;
  uint32_t vcpus = 1;
  std::string vm_prefix = "vm-";
  bool awaits_handoff = false;
  uint64_t phase_step_ticks = 0;  // vCPU i is i times this ahead of the first
  uint32_t die_at_write = 0;      // 0: never
  int exit_code = 0;
  std::string message;  // not empty: print it and exit with exit_code
};

// "VENDOR:KHZ[:WORD]...", see --help. `agent` are the agent's options as far as no word has them.
absl::StatusOr<SimNodeOptions> ParseHost(const std::string& text,
                                         const agent::Options& agent = QuietAgent());

CommandLine ParseCommandLine(const std::vector<std::string>& arguments);

}  // namespace tsc_handoff::sim

#endif  // TSC_HANDOFF_TESTS_SIM_AGENT_OPTIONS_H_
