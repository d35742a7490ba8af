#include "server/agent/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/agent/duration_option.h"
#include "server/agent/limit_options.h"
#include "server/auth/policy.h"
#include "server/base/version.h"
#include "server/clock/chrony_clock_source.h"
#include "server/config/yaml_options.h"
#include "server/peer/grpc_peer_prober.h"
#include "server/tls/tls_files.h"

namespace tsc_handoff::agent {
namespace {

constexpr char kDescription[] =
    "tsc-agent: reads and writes the TSCs of the KVM virtual machines on this host, so that an "
    "orchestrator can hand\n"
    "them over between hosts with exact phase and known error. One agent per host.";

// What makes no sense in a file that --config names.
const config::OptionNames kNotInFile = {"config", "help", "version", "print-config", "health"};

constexpr char kExampleHead[] =
    "# Settings of tsc-agent: each is the flag of the same name, and a flag overrides it. What is\n"
    "# commented out stands at its default. After a change: systemctl reload tsc-agent, which "
    "takes\n"
    "# over what may change while the agent runs, and says what needs a restart.\n";

constexpr char kFooter[] =
    "Examples:\n"
    "  tsc-agent                                     serve local callers and VMMs under "
    "/run/tsc-handoff\n"
    "  tsc-agent --listen 127.0.0.1:50051 --insecure-tcp\n"
    "                                                serve callers of this host by TCP\n"
    "  tsc-agent --listen unix:/run/tsc-handoff/agent.sock --listen 0.0.0.0:50051\n"
    "            --tls-cert tls.crt --tls-key tls.key --tls-ca ca.crt\n"
    "                                                serve also other hosts, by mutual TLS\n"
    "  tsc-agent --clock fixed:40us                  the clock is disciplined by PTP and watched "
    "by other means\n"
    "  tsc-agent --peer-address host1:50051          other agents probe this host's clock there\n"
    "  tsc-agent --attach on --attach-user libvirt-qemu --attach-cgroup /machine.slice\n"
    "                                                also reach stock QEMUs, but only libvirt's\n"
    "\n"
    "Then try: tscctl host; tscctl vms\n"
    "\n"
    "Exit status: 0 stopped by a signal, 1 could not start, 2 wrong usage.";

// Reads the value of --clock; an error message when it is none.
std::string ParseClock(const std::string& text, ClockOptions& out) {
  using Source = ClockOptions::Source;
  absl::string_view rest = text;
  if (text == "auto") {
    out.source = Source::kAuto;
  } else if (text == "kernel") {
    out.source = Source::kKernel;
  } else if (text == "chrony") {
    out.source = Source::kChrony;
  } else if (absl::ConsumePrefix(&rest, "chrony:") && !rest.empty()) {
    out.source = Source::kChrony;
    out.chrony_address = std::string(rest);
    return std::string(clock::ChronyClockSource::CheckAddress(out.chrony_address).message());
  } else if (absl::ConsumePrefix(&rest, "fixed:")) {
    out.source = Source::kFixed;
    return ParseDuration(std::string(rest), out.fixed_error_ns);
  } else {
    return absl::StrCat("\"", text,
                        "\" is none of auto, chrony, chrony:ADDRESS, kernel and "
                        "fixed:DURATION");
  }
  return "";
}

void AddClock(CLI::App& app, ClockOptions& out) {
  app.add_option_function<std::string>(
         "--clock",
         [&out](const std::string& text) {
           if (const std::string error = ParseClock(text, out); !error.empty())
             throw CLI::ValidationError("--clock: " + error);
         },
         "Who bounds the error of the wall clock: chronyd itself (at IP:PORT or a socket's path "
         "[127.0.0.1:323]); the kernel (adjtimex, as any clock daemon keeps it); a bound that you "
         "vouch for; auto: chronyd where it answers, else the kernel [auto]")
      ->type_name("auto|chrony[:ADDRESS]|kernel|fixed:DURATION");
  app.add_option("--clock-drift-ppm", out.tracker.drift_ppm,
                 "Let the bound grow by this rate between two words of its source [50]")
      ->check(CLI::Range(1, 1000));
  app.add_option(
         "--clock-max-missed-updates", out.tracker.max_missed_updates,
         "Do not trust a clock whose discipline has missed this many updates; chronyd's are "
         "not expected more often than once in 64 s [8]")
      ->check(CLI::Range(1, 1000));
  AddDuration(app, "--clock-max-silence", out.tracker.max_silence_ns,
              "Do not trust a clock whose source has been silent for this long [10s]");
}

void AddTransport(CLI::App& app, TransportOptions& out) {
  app.add_option("--tls-cert", out.tls.cert,
                 "Mutual TLS on TCP: the agent's certificate, then the intermediate ones, as PEM. "
                 "The three files are read again when they change")
      ->type_name("FILE");
  app.add_option("--tls-key", out.tls.key, "Mutual TLS: the private key of --tls-cert")
      ->type_name("FILE");
  app.add_option("--tls-ca", out.tls.ca,
                 "Mutual TLS: the authorities that vouch for callers and for other agents")
      ->type_name("FILE");
  app.add_option_function<std::string>(
         "--tls-min-version",
         [&out](const std::string& version) { out.permit_tls_1_2 = version == "1.2"; },
         "Refuse TLS connections older than this [1.3]")
      ->check(CLI::IsMember({"1.3", "1.2"}).description(""))
      ->type_name("1.3|1.2");
  app.add_option("--tls-peer-name", out.peer_name,
                 "Other agents' certificates bear this DNS name, instead of that of the host that "
                 "is called")
      ->type_name("NAME");
  app.add_flag("--insecure-tcp", out.insecure_tcp,
               "Permit --listen on loopback WITHOUT TLS: every process of this host may call");
}

// What --tls-... and --insecure-tcp say together; an error message when they contradict each other.
std::string CheckTransport(const TransportOptions& options) {
  if (absl::Status status = tls::CheckComplete(options.tls); !status.ok())
    return std::string(status.message());
  if (options.insecure_tcp && !options.tls.empty())
    return "--insecure-tcp has no meaning with --tls-cert: all TCP has TLS then";
  return "";
}

void AddOptions(CLI::App& app, CommandLine& out) {
  Options& options = out.options;
  app.add_option("--listen", options.listen,
                 "Where to serve gRPC: unix:/PATH or HOST:PORT; may be repeated "
                 "[unix:/run/tsc-handoff/agent.sock]")
      ->type_name("ADDRESS");
  AddTransport(app, options.transport);
  app.add_option("--vmm-socket", options.vmm_socket,
                 "Unix socket at which VMMs register [/run/tsc-handoff/vmm.sock]")
      ->type_name("PATH");
  app.add_option(
         "--metrics", options.metrics_address,
         "Where to serve Prometheus metrics under /metrics; empty for nowhere [127.0.0.1:9464]")
      ->type_name("HOST:PORT");
  app.add_flag("--insecure-metrics", options.insecure_metrics,
               "Permit an address of --metrics that other hosts reach, WITHOUT authentication or "
               "encryption");
  app.add_option("--metrics-per-vm", options.metrics_per_vm,
                 "Give this many VMs, in order of their ids, metrics of their own [0]")
      ->check(CLI::Range(0, 10000))
      ->type_name("N");
  app.add_option(
         "--journal", out.journal,
         "File of the handoffs that must not be forgotten; made when missing, its directory "
         "too [/var/lib/tsc-handoff/journal.db]")
      ->type_name("PATH");
  AddDuration(app, "--undecided-after", options.undecided_after_ns,
              "Report a pending handoff that nobody has asked about for this long [30s]");
  AddDuration(app, "--keep-handoffs", options.keep_handoffs_ns,
              "Let the journal forget a handoff this long after its end, unless its VM may still "
              "need it [720h]");
  AddClock(app, out.clock);
  app.add_option_function<std::string>(
         "--peer-address",
         [&options](const std::string& text) {
           const absl::Status status = peer::CheckPeerAddress("--peer-address", text);
           if (!status.ok()) throw CLI::ValidationError(std::string(status.message()));
           options.peer_address = text;
         },
         "Where other hosts' agents reach this one to probe its clock; when it is not given, at "
         "the "
         "first --listen that other hosts reach")
      ->type_name("HOST:PORT");
  AddDuration(app, "--max-error", options.limits.max_error_ns,
              "Refuse a handoff whose guest time could be wrong by more than this [1ms]");
  AddDuration(
      app, "--max-elapsed", options.limits.max_elapsed_ns,
      "Refuse a state captured longer ago than this, unless the request says otherwise [5m]");
  AddDuration(app, "--max-commit-wait", options.limits.max_commit_wait_ns,
              "Let an apply wait this long until it is certain that time has passed [100ms]");
  app.add_option("--rate-uncertainty-ppm", options.limits.rate_uncertainty_ppm,
                 "Assumed error of clock and TSC rates while a handoff lasts [50]")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--permit-untrusted-clock", options.limits.permit_untrusted_clock,
               "Let requests accept a clock that is not trusted");
  app.add_flag("--permit-higher-error", options.limits.permit_higher_error,
               "Let requests ask for a max_error above --max-error");
  app.add_flag("--require-probe", options.limits.require_probe,
               "Refuse other hosts' states unless the request names the source's agent to be "
               "probed");
  app.add_option("--policy", out.policy,
                 "YAML file of who may do what; when it is not given, root, the agent's user and "
                 "its group may do everything by the Unix socket, and so may whoever reaches a TCP "
                 "address without TLS")
      ->type_name("FILE");
  app.add_option("--audit-log", options.audit_log,
                 "Append a line of JSON for each change and each refusal of a caller to this file; "
                 "when it is not given, to the log")
      ->type_name("FILE");
  AddLimitOptions(app, options.serving);
  AddVmOptions(app, out.vms);
  AddDuration(app, "--observe-every", options.observe_every_ns,
              "Look at the TSCs in debugfs this often [5s]")
      ->group("VMs whose VMMs know nothing of the agent");
  AddDuration(app, "--drain-limit", out.drain_limit_ns,
              "Let open handoffs come to their end for this long at a stop [20s]");
  app.add_option("--seccomp", out.seccomp,
                 "Once it serves, let the agent make only the system calls that it needs; on: "
                 "another one is refused, and named in the kernel's audit log; kill: another one "
                 "ends the agent [on]")
      ->check(CLI::IsMember({"on", "off", "kill"}).description(""))
      ->type_name("on|off|kill");
  app.add_option("--log-level", out.log_level, "Write lines of this level and above [info]")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}).description(""))
      ->type_name("debug|info|warn|error");
  app.add_option("--log-format", out.log_format,
                 "How to write lines; auto: json where systemd's journal reads them [auto]")
      ->check(CLI::IsMember({"auto", "text", "json"}).description(""))
      ->type_name("auto|text|json");
}

void Declare(CLI::App& app, CommandLine& out) {
  app.footer(kFooter);
  app.set_version_flag("--version", absl::StrCat("tsc-agent ", kVersion));
  app.option_defaults()->always_capture_default(false);
  app.add_option("--config", out.config,
                 "Read settings from this YAML file; its keys are the names of these flags, which "
                 "override it")
      ->type_name("FILE");
  app.add_flag("--print-config", out.print_config,
               "Print a --config file with every setting, its help and its default, and exit");
  app.add_option(
         "--health", out.health,
         "Ask the agent that runs, at the first Unix socket of --listen, and exit: 0 when it "
         "serves, or when no handoff is undecided and its journal works")
      ->check(CLI::IsMember({"agent", "handoffs"}).description(""))
      ->type_name("agent|handoffs");
  AddOptions(app, out);
}

// The policy's content is a setting, too: another one under the same name is a change.
void ReadPolicy(CommandLine& out) {
  auto policy = auth::ReadPolicy(out.policy);
  if (!policy.ok()) {
    out.message = absl::StrCat("tsc-agent: ", policy.status().message(), "\n");
    out.exit_code = 2;
    return;
  }
  absl::StrAppend(&out.given["policy"], " (", policy->bindings.size(), " bindings, digest ",
                  policy->digest.substr(0, 12), ")");
  out.options.policy = std::make_shared<const auth::Policy>(*std::move(policy));
}

}  // namespace

bool MayChange(const std::string& setting) {
  static const config::OptionNames* const kSettings =
      new config::OptionNames{"log-level",       "max-error",           "max-elapsed",
                              "max-commit-wait", "permit-higher-error", "permit-untrusted-clock",
                              "require-probe",   "drain-limit",         "policy",
                              "max-request-rate"};
  return kSettings->count(setting) > 0;
}

void DescribeCommandLine(const std::function<void(const CLI::App&)>& use) {
  CommandLine out;
  CLI::App app(kDescription, "tsc-agent");
  Declare(app, out);
  use(app);
}

CommandLine ParseCommandLine(const std::vector<std::string>& arguments) {
  CommandLine out;
  CLI::App app(kDescription, "tsc-agent");
  Declare(app, out);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    out.message = app.help();
  } catch (const CLI::CallForVersion& version) {
    out.message = absl::StrCat(version.what(), "\n");
  } catch (const CLI::ParseError& error) {
    out.message = absl::StrCat("tsc-agent: ", error.what(), "\nTry: tsc-agent --help\n");
    out.exit_code = 2;
  }
  if (out.print_config && out.message.empty())
    out.message = absl::StrCat(kExampleHead, config::ExampleYaml(app, kNotInFile));
  if (!out.message.empty()) return out;
  if (!out.config.empty()) {
    if (const std::string problem = config::ApplyYaml(app, out.config, kNotInFile);
        !problem.empty()) {
      out.message = absl::StrCat("tsc-agent: ", problem, "\n");
      out.exit_code = 2;
    }
  }
  if (const std::string problem = CheckTransport(out.options.transport);
      out.message.empty() && !problem.empty()) {
    out.message = absl::StrCat("tsc-agent: ", problem, "\n");
    out.exit_code = 2;
  }
  out.given = config::GivenOptions(app);
  if (out.message.empty() && !out.policy.empty()) ReadPolicy(out);
  return out;
}

}  // namespace tsc_handoff::agent
