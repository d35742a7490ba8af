// tsc-agent: starts the agent on this host's real KVM and clocks, and stops it at SIGTERM or
// SIGINT.
#include <pthread.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/agent/agent.h"
#include "server/agent/options.h"
#include "server/agent/self_probe.h"
#include "server/agent/service_manager.h"
#include "server/clock/auto_clock_source.h"
#include "server/clock/chrony_clock_source.h"
#include "server/clock/clock_monitor.h"
#include "server/clock/fixed_clock_source.h"
#include "server/clock/kernel_clock_source.h"
#include "server/journal/sqlite_journal.h"

namespace tsc_handoff::agent {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(5);

std::unique_ptr<clock::ClockSource> MakeChrony(const ClockOptions& options) {
  clock::ChronyOptions chrony;
  chrony.address = options.chrony_address;
  return std::make_unique<clock::ChronyClockSource>(std::move(chrony));
}

std::unique_ptr<clock::ClockSource> MakeClockSource(const ClockOptions& options) {
  using Source = ClockOptions::Source;
  switch (options.source) {
    case Source::kFixed:
      return std::make_unique<clock::FixedClockSource>(options.fixed_error_ns);
    case Source::kKernel:
      return std::make_unique<clock::KernelClockSource>();
    case Source::kChrony:
      return MakeChrony(options);
    case Source::kAuto:
      break;
  }
  return std::make_unique<clock::AutoClockSource>(MakeChrony(options),
                                                  std::make_unique<clock::KernelClockSource>(),
                                                  options.tracker.max_silence_ns);
}

std::unique_ptr<clock::ClockView> MakeClock(const CommandLine& command_line, uint32_t host_khz) {
  clock::MonitorOptions monitor;
  monitor.tracker = command_line.clock.tracker;
  monitor.tracker.host_tsc_khz = host_khz;
  monitor.tracker.tsc_rate_ppm = command_line.options.limits.rate_uncertainty_ppm;
  return std::make_unique<clock::ClockMonitor>(monitor, MakeClockSource(command_line.clock),
                                               std::make_unique<clock::LinuxHostClock>());
}

// The agent holds a descriptor for each vCPU; the usual soft limit of 1,024 would not do for one
// large VM.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    spdlog::warn("cannot raise the limit of descriptors: {}", strerror(errno));
  }
}

// Faults of the host do not keep the agent from starting: it is asked what is wrong through its
// API.
void WarnOfHost(const host::HostFacts& facts) {
  if (!facts.kvm_unavailable_reason.empty())
    spdlog::warn("KVM is not available: {}", facts.kvm_unavailable_reason);
  if (!facts.tsc_unstable_reason.empty())
    spdlog::warn("the TSC is not stable: {}", facts.tsc_unstable_reason);
}

int Run(const CommandLine& command_line) {
  // Blocked before the first thread starts, so that only sigwait sees them.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);

  RaiseDescriptorLimit();
  Platform platform;
  platform.facts = host::ReadHostFacts();
  platform.host_clock = std::make_unique<clock::LinuxHostClock>();
  platform.clock = MakeClock(command_line, platform.facts.tsc.host_khz);
  platform.descriptor_check = std::make_unique<port::KvmDescriptorCheck>();
  WarnOfHost(platform.facts);
  auto journal = journal::SqliteJournal::Open(command_line.journal);
  if (!journal.ok()) {
    spdlog::error("cannot start: {}", std::string(journal.status().message()));
    return 1;
  }
  platform.journal = *std::move(journal);
  const std::string host_name = platform.facts.host_name;
  const uint32_t host_khz = platform.facts.tsc.host_khz;
  auto agent = Agent::Start(command_line.options, std::move(platform));
  if (!agent.ok()) {
    spdlog::error("cannot start: {}", std::string(agent.status().message()));
    return 1;
  }
  for (size_t i = 0; i < command_line.options.listen.size(); ++i) {
    spdlog::info("serving {} (port {}) host={} tsc_khz={}", command_line.options.listen[i],
                 (*agent)->ports()[i], host_name, host_khz);
  }
  SelfProbe self_probe(command_line.options.listen[0], (*agent)->ports()[0]);
  const auto service_manager = ServiceManager::FromEnvironment(
      [&self_probe](absl::Duration limit) { return self_probe.Answers(limit); });
  service_manager->Ready("serving " + command_line.options.listen[0]);
  int signal_number = 0;
  sigwait(&stop_signals, &signal_number);
  spdlog::info("stopping: signal {}", signal_number);
  service_manager->Stopping("stopping");
  (*agent)->Stop(kGrace);
  return 0;
}

}  // namespace
}  // namespace tsc_handoff::agent

int main(int argc, char** argv) {
  const auto command_line =
      tsc_handoff::agent::ParseCommandLine(std::vector<std::string>(argv + 1, argv + argc));
  if (!command_line.message.empty()) {
    std::fputs(command_line.message.c_str(), command_line.exit_code == 0 ? stdout : stderr);
    return command_line.exit_code;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("tsc-agent"));
  spdlog::set_level(spdlog::level::from_str(command_line.log_level));
  return tsc_handoff::agent::Run(command_line);
}
