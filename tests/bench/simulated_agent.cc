#include "tests/bench/simulated_agent.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim_agent/sim_node.h"

namespace tsc_handoff::bench {
namespace {

constexpr char kServing = 'S';
constexpr int64_t kMaxErrorNs = 5'000'000;

}  // namespace

absl::StatusOr<std::unique_ptr<SimulatedAgent>> SimulatedAgent::Start(
    const std::shared_ptr<sim::SimTime>& time, const sim::SimHostOptions& host) {
  std::unique_ptr<SimulatedAgent> agent(new SimulatedAgent());
  char directory[] = "/tmp/tsc-bench.XXXXXX";
  int ends[2];
  if (mkdtemp(directory) == nullptr ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return absl::UnavailableError(absl::StrCat("cannot set up ", directory, ": ", strerror(errno)));
  agent->directory_ = directory;
  agent->lifeline_ = UniqueFd(ends[0]);
  UniqueFd childs_end(ends[1]);
  agent->pid_ = fork();
  if (agent->pid_ < 0) return absl::UnavailableError(absl::StrCat("fork: ", strerror(errno)));
  if (agent->pid_ == 0) {
    agent->lifeline_ = UniqueFd();
    agent->Serve(time, host, childs_end.get());
  }
  childs_end = UniqueFd();
  char said = 0;
  if (read(agent->lifeline_.get(), &said, 1) != 1 || said != kServing)
    return absl::UnavailableError("the simulated host's agent does not start; see above");
  return agent;
}

void SimulatedAgent::Serve(const std::shared_ptr<sim::SimTime>& time,
                           const sim::SimHostOptions& host, int lifeline) const {
  // stdout is for the figures.
  spdlog::set_default_logger(spdlog::stderr_color_mt("agent"));
  spdlog::set_level(spdlog::level::warn);
  sim::SimNodeOptions options;
  options.host = host;
  options.agent.listen = {grpc_address(), "127.0.0.1:0"};  // probes go over TCP
  options.agent.vmm_socket = vmm_socket();
  options.agent.limits.max_error_ns = kMaxErrorNs;
  auto node = sim::SimNode::Start(time, std::move(options));
  if (!node.ok()) {
    std::fprintf(stderr, "bench_vm: %s\n", std::string(node.status().message()).c_str());
    _exit(1);
  }
  char byte = kServing;
  if (write(lifeline, &byte, 1) == 1) {
    while (read(lifeline, &byte, 1) > 0) {  // until the benchmark ends, however it does
    }
  }
  node->reset();
  _exit(0);
}

SimulatedAgent::~SimulatedAgent() {
  lifeline_ = UniqueFd();
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

}  // namespace tsc_handoff::bench
