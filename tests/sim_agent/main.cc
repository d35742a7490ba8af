// sim_agent: see --help, and control.h for the protocol on stdin and stdout.
#include <pthread.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/agent/draining_stop.h"
#include "server/agent/grpc_log.h"
#include "server/agent/process_settings.h"
#include "server/agent/reconfiguration.h"
#include "tests/sim_agent/control.h"
#include "tests/sim_agent/options.h"
#include "tests/sim_agent/sim_node.h"

namespace tsc_handoff::sim {
namespace {

using Json = Control::Json;

constexpr absl::Duration kRegistrationTimeout = absl::Seconds(120);
constexpr absl::Duration kDrainLimit = absl::Seconds(20);  // tsc-agent's default

void Print(const Json& line) { std::cout << line.dump() << std::endl; }

int Fail(const std::string& why) {
  std::fprintf(stderr, "sim_agent: %s\n", why.c_str());
  return 1;
}

// Lets this process have as many descriptors as it may; 0 for as many as possible.
absl::Status RaiseDescriptorLimit(uint64_t needed) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  rlimit wanted = {needed, std::max<rlim_t>(limit.rlim_max, needed)};
  if (needed <= limit.rlim_max) wanted.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &wanted) == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("needs ", needed, " descriptors, and this user may have ", limit.rlim_max, " (",
                   strerror(errno),
                   "): raise the hard limit (ulimit -Hn), or use fewer VMs "
                   "or vCPUs"));
}

int ServeCommands(const std::function<Json(const std::string&)>& execute,
                  const std::function<bool()>& quit) {
  for (std::string line; !quit() && std::getline(std::cin, line);) {
    if (!line.empty()) Print(execute(line));
  }
  return 0;
}

// As tsc-agent does, for the rest of this process's life.
void StopAtSignal(const sigset_t& signals, agent::Agent& agent) {
  std::thread([signals, &agent] {
    while (agent::NextSignal(signals, absl::Hours(1)) == 0) continue;
    agent::DrainAndStop(signals, agent, kDrainLimit);
    _exit(0);
  }).detach();
}

int RunHosts(const CommandLine& command_line) {
  // As many as it can get: how many VMs will come is not known.
  if (absl::Status status = RaiseDescriptorLimit(0); !status.ok())
    return Fail(std::string(status.message()));
  // Before the first thread starts.
  sigset_t stopping;
  sigemptyset(&stopping);
  sigaddset(&stopping, SIGTERM);
  const bool is_agent = command_line.role == Role::kAgent;
  if (is_agent) pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
  const bool has_settings = !command_line.agent_arguments.empty();
  std::atomic<agent::Agent*> running{nullptr};
  agent::Reconfiguration configuration(command_line.agent_arguments, command_line.agent,
                                       [&](const agent::CommandLine& now) {
                                         if (agent::Agent* const agent = running; agent != nullptr)
                                           agent::ApplyChanges(now, *agent);
                                       });
  const auto time = std::make_shared<SimTime>(SimTime::Mode::kMachine);
  std::vector<std::unique_ptr<SimNode>> nodes;
  for (size_t i = 0; i < command_line.hosts.size(); ++i) {
    SimNodeOptions options = command_line.hosts[i];
    if (command_line.metrics) options.agent.metrics_address = "127.0.0.1:0";
    if (i == 0) options.agent.vmm_socket = command_line.vmm_socket;
    options.check_descriptors = has_settings;
    if (has_settings) {
      options.agent.reload = [&] {
        return agent::ReloadAll(running, command_line.agent, configuration);
      };
    }
    auto node = SimNode::Start(time, std::move(options));
    if (!node.ok()) return Fail(std::string(node.status().message()));
    if (command_line.hosts[i].clock_bound_ns < 0)
      (*node)->clock().Distrust("--host says untrusted");
    nodes.push_back(*std::move(node));
  }
  running = &nodes.front()->agent();
  if (has_settings) {
    agent::TakeOverGrpcLog();
    if (absl::Status status = agent::ConfineAsWanted(command_line.agent); !status.ok())
      return Fail(std::string(status.message()));
  }
  if (is_agent) StopAtSignal(stopping, nodes.front()->agent());
  Control control(time, std::move(nodes));
  Print(control.Ready());
  return ServeCommands([&](const std::string& line) { return control.Execute(line); },
                       [&] { return control.quit(); });
}

void DieAtWrite(SimHost& host, uint32_t nth) {
  auto writes = std::make_shared<std::atomic<uint32_t>>(0);
  host.SetHook([writes, nth](const SimCall& call) {
    const bool is_write = call.request == KVM_SET_DEVICE_ATTR || call.request == KVM_SET_MSRS ||
                          call.request == KVM_SET_TSC_KHZ || call.request == KVM_SET_CLOCK;
    if (is_write && ++*writes == nth) kill(getpid(), SIGKILL);
  });
}

int RunVmms(const CommandLine& command_line) {
  constexpr uint64_t kPerProcess = 64;
  constexpr uint64_t kPerSession = 8;
  const uint64_t descriptors =
      kPerProcess + uint64_t{command_line.vms} * (command_line.vcpus + kPerSession);
  if (absl::Status status = RaiseDescriptorLimit(descriptors); !status.ok())
    return Fail(std::string(status.message()));
  SimHostOptions host_options = command_line.hosts.front().host;
  host_options.real_fds = true;
  SimHost host(std::make_shared<SimTime>(SimTime::Mode::kMachine), host_options);
  std::vector<std::unique_ptr<SimGuest>> guests;
  for (uint32_t i = 0; i < command_line.vms; ++i) {
    SimGuestOptions options;
    options.vm_id = absl::StrCat(command_line.vm_prefix, i);
    options.vcpu_ids = DenseIds(command_line.vcpus);
    options.awaits_handoff = command_line.awaits_handoff;
    for (uint32_t vcpu = 0; vcpu < command_line.vcpus; ++vcpu)
      options.phase_ticks.push_back(vcpu * command_line.phase_step_ticks);
    auto guest = SimGuest::Make(host, options);
    if (!guest.ok()) return Fail(std::string(guest.status().message()));
    absl::Status status = (*guest)->Connect(command_line.vmm_socket);
    // One after the other, because an agent serves a limited number of registrations at once.
    if (status.ok()) status = (*guest)->AwaitRegistered(kRegistrationTimeout);
    if (!status.ok()) return Fail(absl::StrCat(options.vm_id, ": ", status.message()));
    guests.push_back(*std::move(guest));
  }
  if (command_line.die_at_write > 0) DieAtWrite(host, command_line.die_at_write);
  Print({{"event", "registered"},
         {"pid", getpid()},
         {"vms", command_line.vms},
         {"vcpus", command_line.vcpus}});
  bool quit = false;
  return ServeCommands(
      [&](const std::string& line) -> Json {
        quit = line.find("\"quit\"") != std::string::npos;
        return quit ? MemoryOfThisProcess() : ExecuteForVmms(guests, line);
      },
      [&] { return quit; });
}

}  // namespace
}  // namespace tsc_handoff::sim

int main(int argc, char** argv) {
  using tsc_handoff::sim::Role;
  const auto command_line =
      tsc_handoff::sim::ParseCommandLine(std::vector<std::string>(argv + 1, argv + argc));
  if (!command_line.message.empty()) {
    std::fputs(command_line.message.c_str(), command_line.exit_code == 0 ? stdout : stderr);
    return command_line.exit_code;
  }
  // As in tsc-agent, which it stands for in measurements.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  spdlog::set_default_logger(spdlog::stderr_color_mt("sim_agent"));
  spdlog::set_level(spdlog::level::from_str(command_line.log_level));
  return command_line.role == Role::kVmms ? tsc_handoff::sim::RunVmms(command_line)
                                          : tsc_handoff::sim::RunHosts(command_line);
}
