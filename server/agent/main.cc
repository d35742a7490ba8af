// tsc-agent: starts the agent on this host's real KVM and clocks, has it read its configuration
// again at SIGHUP, and drains and stops it at SIGTERM or SIGINT.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "server/agent/agent.h"
#include "server/agent/draining_stop.h"
#include "server/agent/grpc_log.h"
#include "server/agent/linux_host_vms.h"
#include "server/agent/options.h"
#include "server/agent/reconfiguration.h"
#include "server/agent/self_probe.h"
#include "server/agent/service_manager.h"
#include "server/base/log.h"
#include "server/base/on_behalf_of.h"
#include "server/clock/auto_clock_source.h"
#include "server/clock/chrony_clock_source.h"
#include "server/clock/clock_monitor.h"
#include "server/clock/fixed_clock_source.h"
#include "server/clock/kernel_clock_source.h"
#include "server/confine/core_dumps.h"
#include "server/confine/system_call_filter.h"
#include "server/discovery/vm_id_rule.h"
#include "server/journal/sqlite_journal.h"
#include "server/tls/loopback.h"

namespace tsc_handoff::agent {
namespace {

constexpr absl::Duration kHealthPatience = absl::Seconds(3);

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

void LogAttach(const discovery::FoundVm& vm, const std::string& vm_id, pid_t tid) {
  Log(LogLevel::kInfo, "attaching",
      {{"vm", vm_id},
       {"vmm_pid", vm.pid},
       {"tid", tid},
       {"uid", vm.uid},
       {"executable", vm.executable},
       {"for", OnBehalfOf::Current()}});
}

std::unique_ptr<HostVms> MakeHostVms(const VmOptions& options) {
  if (!options.look_for_vms()) return nullptr;
  auto rule = discovery::VmIdRule::Create(options.vm_id_pattern);
  if (!rule.ok()) return nullptr;  // the command line was checked
  LinuxHostVmsOptions linux_options;
  linux_options.rules = options.rules;
  linux_options.allow_seccomp = options.allow_seccomp;
  linux_options.observe = options.observe;
  return std::make_unique<LinuxHostVms>(std::move(linux_options), *std::move(rule), LogAttach);
}

// The agent holds a descriptor for each vCPU; the usual soft limit of 1,024 would not do for one
// large VM.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    Log(LogLevel::kWarn, "cannot raise the limit of descriptors", {{"why", strerror(errno)}});
  }
}

// Faults of the host do not keep the agent from starting: it is asked what is wrong through its
// API.
void WarnOfHost(const host::HostFacts& facts) {
  if (!facts.kvm_unavailable_reason.empty())
    Log(LogLevel::kWarn, "KVM is not available", {{"why", facts.kvm_unavailable_reason}});
  if (!facts.tsc_unstable_reason.empty())
    Log(LogLevel::kWarn, "the TSC is not stable", {{"why", facts.tsc_unstable_reason}});
}

// Who listens where anybody may be should know it.
void WarnOfStrangers(const Options& options) {
  // Without a policy certificates give nothing.
  if (options.policy != nullptr || !options.transport.tls.empty()) return;
  for (const std::string& address : options.listen) {
    if (absl::StartsWith(address, "unix:")) continue;
    Log(LogLevel::kWarn, "whoever reaches this address may do everything: there is no --policy",
        {{"address", address}});
  }
}

bool CannotStart(const absl::Status& status) {
  if (!status.ok()) Log(LogLevel::kError, "cannot start", {{"why", status.message()}});
  return !status.ok();
}

// No rights are kept that only the start needed.
absl::Status ConfineAsWanted(const CommandLine& command_line) {
  if (command_line.seccomp == "off") return absl::OkStatus();
  confine::SystemCallFilter filter;
  if (command_line.seccomp == "kill") filter.forbidden = confine::Forbidden::kKills;
  filter.attach = command_line.vms.rules.attach;
  return confine::Confine(filter);
}

// Serves until SIGTERM or SIGINT, and reads the configuration again at SIGHUP. Returns the signal.
int ServeUntilStopped(const sigset_t& signals, const service::Reloader& reload) {
  for (;;) {
    const int number = NextSignal(signals, absl::Hours(1));
    if (number == SIGHUP) (void)reload();  // it says in the log what became of it
    if (number == SIGTERM || number == SIGINT) return number;
  }
}

// Certificates, the policy and the configuration file are read again, and the audit's file is
// opened anew.
absl::StatusOr<service::Reloaded> ReloadAll(Agent* agent, const CommandLine& command_line,
                                            Reconfiguration& configuration) {
  // Whatever the files say: the old one has been moved away.
  if (agent != nullptr) agent->ReopenAudit();
  const bool certificates = agent != nullptr && agent->ReloadCertificates();
  absl::StatusOr<service::Reloaded> reloaded = service::Reloaded();
  const bool has_file = !command_line.config.empty() || !command_line.policy.empty();
  if (has_file || command_line.options.transport.tls.empty()) reloaded = configuration.Reload();
  if (reloaded.ok() && certificates) reloaded->changed.emplace_back("tls-cert: a new certificate");
  return reloaded;
}

// Prefers a Unix socket, where nothing but the agent itself can keep the answer away.
SelfProbe MakeSelfProbe(const Options& options, Agent& agent) {
  const std::vector<int> ports = agent.ports();
  for (size_t i = 0; i < options.listen.size(); ++i) {
    if (tls::IsUnixSocket(options.listen[i])) return SelfProbe(options.listen[i], ports[i]);
  }
  if (!options.transport.tls.empty()) return SelfProbe(agent.InProcessChannel());
  return SelfProbe(options.listen[0], ports[0]);
}

// For probes of a container, which have no client certificate.
int CheckHealth(const CommandLine& command_line) {
  for (const std::string& address : command_line.options.listen) {
    if (!tls::IsUnixSocket(address)) continue;
    const char* const service = command_line.health == "handoffs" ? kHandoffsHealth : "";
    const bool serves = SelfProbe(address, 0).Serves(service, kHealthPatience);
    std::printf("%s: %s\n", address.c_str(), serves ? "SERVING" : "not serving");
    return serves ? 0 : 1;
  }
  std::fputs("tsc-agent: --health asks at a Unix socket, and --listen has none\n", stderr);
  return 2;
}

int Run(const std::vector<std::string>& arguments, const CommandLine& command_line) {
  // Blocked before the first thread starts, so that only NextSignal sees them.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  // Debian's Abseil was built with it, and it walks a graph at every lock. Tests keep it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  RaiseDescriptorLimit();
  Platform platform;
  platform.facts = host::ReadHostFacts();
  platform.host_clock = std::make_unique<clock::LinuxHostClock>();
  platform.clock = MakeClock(command_line, platform.facts.tsc.host_khz);
  platform.descriptor_check = std::make_unique<port::KvmDescriptorCheck>();
  platform.host_vms = MakeHostVms(command_line.vms);
  WarnOfHost(platform.facts);
  auto journal = journal::SqliteJournal::Open(command_line.journal);
  if (CannotStart(journal.status())) return 1;
  platform.journal = *std::move(journal);
  const std::string host_name = platform.facts.host_name;
  const uint32_t host_khz = platform.facts.tsc.host_khz;

  std::atomic<Agent*> running{nullptr};
  std::atomic<int64_t> drain_limit_ns{command_line.drain_limit_ns};
  Reconfiguration configuration(arguments, command_line, [&](const CommandLine& now) {
    SetLogLevel(now.log_level);
    drain_limit_ns = now.drain_limit_ns;
    if (Agent* const agent = running; agent != nullptr) {
      agent->SetLimits(now.options.limits);
      agent->SetMaxRequestRate(now.options.serving.max_request_rate);
      agent->SetPolicy(now.options.policy);
    }
  });
  Options options = command_line.options;
  if (options.transport.insecure_tcp)
    Log(LogLevel::kWarn, "TCP on loopback without TLS: every process of this host may call");
  options.reload = [&] { return ReloadAll(running, command_line, configuration); };
  auto agent = Agent::Start(options, std::move(platform));
  if (CannotStart(agent.status()) || CannotStart(ConfineAsWanted(command_line))) return 1;
  running = agent->get();
  for (size_t i = 0; i < command_line.options.listen.size(); ++i) {
    Log(LogLevel::kInfo, "serving",
        {{"address", command_line.options.listen[i]},
         {"port", (*agent)->ports()[i]},
         {"host", host_name},
         {"tsc_khz", host_khz},
         {"seccomp", command_line.seccomp}});
  }
  WarnOfStrangers(options);
  SelfProbe self_probe = MakeSelfProbe(command_line.options, **agent);
  const auto service_manager = ServiceManager::FromEnvironment(
      [&self_probe](absl::Duration limit) { return self_probe.Answers(limit); });
  service_manager->Ready("serving " + command_line.options.listen[0]);
  const int number = ServeUntilStopped(signals, options.reload);
  Log(LogLevel::kInfo, "stopping", {{"signal", number}});
  service_manager->Stopping("letting open handoffs end");
  DrainAndStop(signals, **agent, absl::Nanoseconds(drain_limit_ns.load()));
  return 0;
}

}  // namespace
}  // namespace tsc_handoff::agent

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto command_line = tsc_handoff::agent::ParseCommandLine(arguments);
  if (!command_line.message.empty()) {
    std::fputs(command_line.message.c_str(), command_line.exit_code == 0 ? stdout : stderr);
    return command_line.exit_code;
  }
  if (!command_line.health.empty()) return tsc_handoff::agent::CheckHealth(command_line);
  using tsc_handoff::LogFormat;
  tsc_handoff::StartLog("tsc-agent", command_line.log_format == "json" ? LogFormat::kJson
                                     : command_line.log_format == "text"
                                         ? LogFormat::kText
                                         : tsc_handoff::FormatForStderr());
  tsc_handoff::SetLogLevel(command_line.log_level);
  tsc_handoff::agent::TakeOverGrpcLog();
  if (const auto status = tsc_handoff::confine::ForbidCoreDumps(); !status.ok())
    Log(tsc_handoff::LogLevel::kWarn, "the core of a crash would hold states",
        {{"why", status.message()}});
  return tsc_handoff::agent::Run(arguments, command_line);
}
