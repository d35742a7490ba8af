#include "tests/sim_agent/options.h"

#include <CLI/CLI.hpp>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff::sim {
namespace {

constexpr char kDescription[] =
    "sim_agent: real agents on simulated hosts, and simulated VMs, for tests, demonstrations and\n"
    "benchmarks. Controlled by one JSON object per line on stdin, answered by one per line on\n"
    "stdout (the protocol stands at the top of tests/sim_agent/control.h). Ends at the end of "
    "stdin.\n"
    "\n"
    "All simulated hosts of all sim_agent processes of this machine share one true time: its\n"
    "CLOCK_MONOTONIC.";

constexpr char kFooter[] =
    "HOST is VENDOR:KHZ[:WORD]... where VENDOR is vmx or svm and WORD is one of\n"
    "  scaling            KVM can scale a guest's TSC (otherwise it cannot)\n"
    "  protected          offsets are accepted and not kept\n"
    "  name=NAME          host name\n"
    "  wall_error_ns=N    the wall clock's error against true time [0]\n"
    "  bound_ns=N         the bound that the host states for it [20000]; untrusted: none\n"
    "  untrusted          the host does not trust its wall clock\n"
    "  rate_ppb=N         by how much the TSC runs faster than KHZ says [0]\n"
    "  tai_s=N            CLOCK_TAI - CLOCK_REALTIME, 0 unknown [37]\n"
    "  journal=PATH       the agent's journal [a new one, removed at the end]\n"
    "  port=N             the agent's port, 0 for any [0]\n"
    "  undecided_ms=N     a handoff silent for longer is undecided [30000]\n"
    "  metrics_per_vm=N   so many VMs have metrics of their own [0]\n"
    "\n"
    "Examples:\n"
    "  sim_agent --host vmx:2100000:scaling --host svm:3500000:scaling:wall_error_ns=15000\n"
    "  {\"cmd\":\"create_vm\",\"host\":0,\"vm\":\"demo\",\"vcpus\":8,\"phases\":[0,700,-45]}\n"
    "  {\"cmd\":\"truth\",\"vm\":\"demo\"}\n"
    "\n"
    "An agent's memory, with its VMs elsewhere; SIGTERM drains and stops it as it does tsc-agent:\n"
    "  sim_agent --role agent --host svm:2600000 --vmm-socket /tmp/x/vmm.sock\n"
    "  sim_agent --role vmms --host svm:2600000 --vms 1000 --vcpus 64 --vmm-socket "
    "/tmp/x/vmm.sock\n"
    "\n"
    "Exit status: 0 end of stdin, 1 could not start, 2 wrong usage.";

struct NumberWord {
  const char* name;
  void (*set)(SimNodeOptions& options, int64_t value);
};

constexpr NumberWord kNumberWords[] = {
    {"wall_error_ns",
     [](SimNodeOptions& o, int64_t value) { o.host.clock.realtime_error_ns = value; }},
    {"bound_ns", [](SimNodeOptions& o, int64_t value) { o.clock_bound_ns = value; }},
    {"rate_ppb", [](SimNodeOptions& o, int64_t value) { o.host.clock.tsc_rate_error_ppb = value; }},
    {"tai_s", [](SimNodeOptions& o,
                 int64_t value) { o.host.clock.tai_offset_s = static_cast<int32_t>(value); }},
    {"port", [](SimNodeOptions& o,
                int64_t value) { o.agent.listen.front() = absl::StrCat("127.0.0.1:", value); }},
    {"undecided_ms",
     [](SimNodeOptions& o, int64_t value) { o.agent.undecided_after_ns = value * 1'000'000; }},
    {"metrics_per_vm",
     [](SimNodeOptions& o, int64_t value) { o.agent.metrics_per_vm = static_cast<size_t>(value); }},
};

bool ApplyWord(const std::string& word, SimNodeOptions& options) {
  if (word == "scaling") return options.host.kvm.tsc_control = true;
  if (word == "protected") return options.host.kvm.tsc_protected = true;
  if (word == "untrusted") {
    options.clock_bound_ns = -1;
    return true;
  }
  const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
  if (parts.first == "name" && !parts.second.empty()) {
    options.name = parts.second;
    return true;
  }
  if (parts.first == "journal" && !parts.second.empty()) {
    options.journal_path = parts.second;
    return true;
  }
  int64_t value;
  if (!absl::SimpleAtoi(parts.second, &value)) return false;
  for (const NumberWord& known : kNumberWords) {
    if (parts.first != known.name) continue;
    known.set(options, value);
    return true;
  }
  return false;
}

void AddOptions(CLI::App& app, CommandLine& out, std::vector<std::string>& hosts,
                std::string& agent_config) {
  const std::map<std::string, Role> roles = {
      {"hosts", Role::kHosts}, {"agent", Role::kAgent}, {"vmms", Role::kVmms}};
  app.add_option("--role", out.role, "hosts, agent or vmms [hosts]")
      ->transform(CLI::CheckedTransformer(roles))
      ->type_name("ROLE");
  app.add_option("--host", hosts, "A simulated host, see below; given twice for two")
      ->required()
      ->type_name("HOST");
  app.add_option("--vmm-socket", out.vmm_socket,
                 "The first host's agent serves VMMs here (role hosts, agent), or VMMs connect "
                 "here (role vmms)")
      ->type_name("PATH");
  app.add_option(
         "--agent-config", agent_config,
         "Role agent: settings as tsc-agent's --config has them (TLS, policy, audit, limits, "
         "seccomp), read again by the RPC Reload; what is simulated or has a flag here is "
         "left out. The first address of `listen` is TCP. Descriptors of VMs are checked then")
      ->type_name("FILE");
  app.add_flag("--metrics", out.metrics,
               "Serve each agent's Prometheus metrics, on ports of their own choice");
  app.add_option("--vms", out.vms, "Role vmms: number of VMs [1]")->check(CLI::Range(1, 4096));
  app.add_option("--vcpus", out.vcpus, "Role vmms: vCPUs of each VM [1]")
      ->check(CLI::Range(1, static_cast<int>(TSC_KVM_MAX_VCPUS)));
  app.add_option("--vm-prefix", out.vm_prefix, "Role vmms: VM ids are PREFIX0, PREFIX1, ... [vm-]")
      ->type_name("PREFIX");
  app.add_flag(
      "--awaits-handoff", out.awaits_handoff,
      "Role vmms: the VMs are destinations, which run only when a handoff has brought them");
  app.add_option("--phase-step", out.phase_step_ticks,
                 "Role vmms: each vCPU's TSC is so far ahead of the one before [0]")
      ->type_name("TICKS");
  app.add_option("--die-at-write", out.die_at_write,
                 "Role vmms: die by SIGKILL at the Nth writing ioctl")
      ->type_name("N");
  app.add_option("--log-level", out.log_level, "Of the agents, on stderr [warn]")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->type_name("LEVEL");
}

// Reads the file of --agent-config. What the simulation decides itself stays as it is without one.
std::string ReadAgentConfig(const std::string& path, CommandLine& out, agent::Options& options) {
  if (path.empty()) return "";
  if (out.role != Role::kAgent) return "--agent-config is for role agent";
  out.agent_arguments = {"--config", path};
  out.agent = agent::ParseCommandLine(out.agent_arguments);
  if (!out.agent.message.empty()) return out.agent.message;
  const agent::Options quiet = QuietAgent();
  options = out.agent.options;
  if (!out.agent.given.contains("listen")) options.listen = quiet.listen;
  options.vmm_socket = quiet.vmm_socket;
  options.metrics_address = quiet.metrics_address;
  options.peer_address = quiet.peer_address;
  options.transport.insecure_tcp = options.transport.tls.empty();
  return "";
}

// What CLI11 does not check.
std::string Complete(const std::vector<std::string>& hosts, const std::string& agent_config,
                     CommandLine& out) {
  agent::Options agent = QuietAgent();
  if (std::string wrong = ReadAgentConfig(agent_config, out, agent); !wrong.empty()) return wrong;
  for (const std::string& text : hosts) {
    auto host = ParseHost(text, agent);
    if (!host.ok()) return std::string(host.status().message());
    if (host->name == SimNodeOptions().name) host->name = absl::StrCat("sim-", out.hosts.size());
    out.hosts.push_back(*std::move(host));
  }
  if (out.role == Role::kHosts && hosts.size() > 2) return "role hosts has one --host or two";
  if (out.role != Role::kHosts && hosts.size() != 1) return "this role has one --host";
  if (out.role != Role::kHosts && out.vmm_socket.empty()) return "this role needs --vmm-socket";
  return "";
}

}  // namespace

absl::StatusOr<SimNodeOptions> ParseHost(const std::string& text, const agent::Options& agent) {
  SimNodeOptions options;
  options.agent = agent;
  options.host.ioctl_ns = 0;  // true time is the machine's; ioctls take what they take
  options.host.record_calls = false;
  options.host.kvm.tsc_control = false;
  const std::vector<std::string> words = absl::StrSplit(text, ':');
  uint32_t khz = 0;
  if (words.size() < 2 || (words[0] != "vmx" && words[0] != "svm") ||
      !absl::SimpleAtoi(words[1], &khz) || khz < 100'000 || khz > 10'000'000) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is no HOST: VENDOR:KHZ[:WORD]..., for example vmx:2100000:scaling"));
  }
  options.host.kvm.vendor = words[0] == "vmx" ? Vendor::kVmx : Vendor::kSvm;
  options.host.clock.tsc_khz = khz;
  for (size_t i = 2; i < words.size(); ++i) {
    if (!ApplyWord(words[i], options)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", words[i], "\" in --host ", text, " is no word that --help names"));
    }
  }
  return options;
}

CommandLine ParseCommandLine(const std::vector<std::string>& arguments) {
  CommandLine out;
  std::vector<std::string> hosts;
  std::string agent_config;
  CLI::App app(kDescription, "sim_agent");
  app.footer(kFooter);
  app.option_defaults()->always_capture_default(false);
  AddOptions(app, out, hosts, agent_config);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    if (const std::string wrong = Complete(hosts, agent_config, out); !wrong.empty())
      throw CLI::ValidationError(wrong);
  } catch (const CLI::CallForHelp&) {
    out.message = app.help();
  } catch (const CLI::ParseError& error) {
    out.message = absl::StrCat("sim_agent: ", error.what(), "\nTry: sim_agent --help\n");
    out.exit_code = 2;
  }
  return out;
}

}  // namespace tsc_handoff::sim
