#include "client/tscctl/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/lib/agent_client.h"
#include "client/qmp/qmp_address.h"
#include "client/tscctl/contexts.h"
#include "client/tscctl/help_text.h"
#include "client/tscctl/peer_address.h"
#include "server/base/version.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr size_t kMaxIdBytes = 128;
constexpr int kMaxParallel = 256;
constexpr absl::Duration kMinTimeout = absl::Milliseconds(1);
constexpr absl::Duration kMaxTimeout = absl::Minutes(10);
// Between two rounds of questions to an agent.
constexpr absl::Duration kMinInterval = absl::Milliseconds(100);
constexpr absl::Duration kMaxInterval = absl::Hours(1);
// Longer than any real one; keeps nanoseconds far below 2^63.
constexpr absl::Duration kMaxError = absl::Hours(1);
constexpr absl::Duration kMaxElapsed = absl::Hours(24 * 365 * 10);

// The command line's words before they are checked.
struct Raw {
  std::string timeout = "5s";
  std::string output = "table";
  std::string mode;
  std::string max_error;
  std::string max_elapsed;
  std::string to_vm;
  std::string wait = "25s";
  std::string interval = "1s";
  // Which contexts, and which of them; empty for the usual ones.
  std::string config;
  std::string context;
  bool example = false;
};

// The messages of checks, empty when all is well.
using Problem = std::string;

// `whose` is "VM" or "handoff".
Problem CheckId(const std::string& whose, const std::string& id) {
  if (id.empty()) return absl::StrCat("the ", whose, "'s id is empty");
  if (id.size() > kMaxIdBytes) {
    return absl::StrCat("the ", whose, "'s id has ", id.size(), " characters; the limit is ",
                        kMaxIdBytes);
  }
  for (const char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("._:-", absl::string_view(&c, 1))) {
      return absl::StrCat(whose, " id \"", id, "\" has a character other than A-Z a-z 0-9 . _ : -");
    }
  }
  return "";
}

Problem CheckVmId(const std::string& vm_id) { return CheckId("VM", vm_id); }

Problem ParseDurationOption(const std::string& name, const std::string& text, absl::Duration low,
                            absl::Duration high, absl::Duration* duration) {
  if (!absl::ParseDuration(text, duration)) {
    return absl::StrCat(name, " ", text,
                        " is not a duration; write for example 500us, 5s or 1m30s");
  }
  if (*duration < low || *duration > high) {
    return absl::StrCat(name, " ", text, " is not from ", absl::FormatDuration(low), " to ",
                        absl::FormatDuration(high));
  }
  return "";
}

// Without CLI11's own description, which would repeat in the help what type_name says.
CLI::Validator OneOf(std::vector<std::string> words) {
  return CLI::IsMember(std::move(words)).description("");
}

// An empty word is a script's mistake, not an option that was left out.
CLI::Validator PeerAddress() {
  return CLI::Validator(
      [](std::string& text) {
        if (IsPeerAddress(text)) return std::string();
        return absl::StrCat("\"", text,
                            "\" is not HOST:PORT, at which one host's agent reaches another's");
      },
      "");
}

CLI::Validator NotEmpty(const std::string& what) {
  return CLI::Validator(
      [what](std::string& text) { return text.empty() ? absl::StrCat(what, " is empty") : ""; },
      "");
}

CLI::Option* AddSourceAgent(CLI::App* command, const std::string& unless_given, Options* options) {
  v1::SetTscStateRequest* apply = &options->apply;
  return command
      ->add_option_function<std::string>(
          "--source-agent", [apply](const std::string& text) { apply->set_source_agent(text); },
          "Probe the clock of the source's agent at this address (default: " + unless_given + ")")
      ->type_name("HOST:PORT")
      ->check(PeerAddress());
}

void AddApplyOptions(CLI::App* command, const std::string& default_mode, Options* options,
                     Raw* raw) {
  v1::SetTscStateRequest* apply = &options->apply;
  CLI::Option* mode =
      command->add_option("--mode", raw->mode,
                          "Add the time since the capture to guest time, or do not" +
                              (default_mode.empty() ? "" : " (default " + default_mode + ")"));
  mode->check(OneOf({"elapsed", "exact"}))->type_name("elapsed|exact");
  if (default_mode.empty()) mode->required();
  const auto duration = [command](const char* name, std::string* value, const char* help) {
    command->add_option(name, *value, help)->type_name("DURATION");
  };
  const auto flag = [command](const char* name, const std::function<void(bool)>& set,
                              const char* help) {
    command->add_flag_callback(
        name, [set] { set(true); }, help);
  };
  duration("--max-error", &raw->max_error,
           "Refuse when guest time's error bound would be above this (default: the agent's limit)");
  duration("--max-elapsed", &raw->max_elapsed,
           "Refuse when more time than this passed since the capture (default: the agent's; 5m)");
  flag(
      "--allow-untrusted-clock", [apply](bool on) { apply->set_allow_untrusted_clock(on); },
      "Accept clocks that are not known to be right; there is no error bound then");
  flag(
      "--equalise", [apply](bool on) { apply->set_equalise(on); },
      "Give all vCPUs the TSC of the one furthest ahead; destroys the phase on purpose");
  flag(
      "--keep-kvmclock", [apply](bool on) { apply->set_keep_kvmclock(on); },
      "Leave the VM's kvmclock alone");
  flag(
      "--validate-only", [apply](bool on) { apply->set_validate_only(on); },
      "Check and compute everything, write nothing");
}

// How a state is applied, for commands that hand over.
void AddHandoffApplyOptions(CLI::App* command, Options* options, Raw* raw) {
  AddApplyOptions(command, "elapsed", options, raw);
  CLI::Option* source_agent = AddSourceAgent(command, "as that agent says", options);
  command
      ->add_flag_callback(
          "--no-probe", [options] { options->probe = false; },
          "Take both hosts' word for their clocks, without measuring the difference")
      ->excludes(source_agent);
}

void AddFrom(CLI::App* command, Options* options) {
  command->add_option("--from", options->from, "The source's agent")
      ->type_name("ADDRESS")
      ->required();
}

void AddTo(CLI::App* command, Options* options) {
  command->add_option("--to", options->to, "The destination's agent")
      ->type_name("ADDRESS")
      ->required();
}

CLI::App* AddCommand(CLI::App* app, const char* name, const char* description, const char* footer,
                     Command command, Options* options) {
  CLI::App* added = app->add_subcommand(name, description);
  added->footer(absl::StrCat(footer, "\n", kCommonOptions, "\n", kExitCodes));
  added->callback([options, command] { options->command = command; });
  return added;
}

void AddVmArgument(CLI::App* command, const char* help, Options* options) {
  command->add_option("VM", options->vm, help)->required()->type_name("");
}

void AddClockCommand(CLI::App* app, Options* options) {
  CLI::App* clock = AddCommand(app, "clock", "How good the agent's clock is; do two agents' agree?",
                               kClockFooter, Command::kClock, options);
  CLI::Option* a = clock->add_option("A", options->from, "Compare the clock of this agent's host")
                       ->type_name("ADDRESS")
                       ->check(NotEmpty("the address"));
  CLI::Option* b =
      clock->add_option("B", options->to, "... with that of this agent's host, by probing from A")
          ->type_name("ADDRESS")
          ->check(NotEmpty("the address"));
  a->needs(b);
  clock
      ->add_option("--peer", options->peer,
                   "Where A reaches B (default: what B says of itself, else B as given)")
      ->type_name("HOST:PORT")
      ->check(PeerAddress())
      ->needs(b);
}

// What `top` and `watch` have in common.
void AddFollowOptions(CLI::App* command, Options* options, Raw* raw) {
  command
      ->add_option("--agent", options->agents,
                   "The agents to ask; may be given several times (default: as of --agent before "
                   "the command)")
      ->type_name("ADDRESS[,ADDRESS]...")
      ->delimiter(',');
  command->add_option("--interval", raw->interval, "How often to ask (default 1s)")
      ->type_name("DURATION");
}

void AddFollowCommands(CLI::App* app, Options* options, Raw* raw) {
  CLI::App* top = AddCommand(app, "top", "Hosts, VMs and handoffs on the whole screen, live",
                             kTopFooter, Command::kTop, options);
  AddFollowOptions(top, options, raw);
  CLI::App* watch = AddCommand(app, "watch", "Print what happens, a line for each event",
                               kWatchFooter, Command::kWatch, options);
  AddFollowOptions(watch, options, raw);
  watch->add_option("--vm", options->vm, "Only handoffs of this VM")->type_name("VM");
  watch->add_flag_callback(
      "--json", [raw] { raw->output = "json"; }, "The same as -o json: each line is an object");
}

void AddMigrateQemuCommand(CLI::App* app, Options* options, Raw* raw) {
  CLI::App* migrate =
      AddCommand(app, "migrate-qemu", "Live-migrate a stock QEMU's VM, and hand its TSCs over",
                 kMigrateQemuFooter, Command::kMigrateQemu, options);
  QemuOptions* qemu = &options->qemu;
  const auto agent = [migrate](const char* name, std::string* value, const char* help) {
    migrate->add_option(name, *value, help)->type_name("ADDRESS");
  };
  agent("--from", &options->from, "The source's agent");
  agent("--to", &options->to, "The destination's agent");
  migrate->add_option("--vm", options->vm, "The VM's id at the source's agent")->type_name("VM");
  migrate
      ->add_option("--to-vm", raw->to_vm,
                   "The VM's id at the destination's agent (default: the same)")
      ->type_name("VM");
  const auto required = [migrate](const char* name, std::string* value, const char* type,
                                  const char* help) {
    migrate->add_option(name, *value, help)->type_name(type)->required();
  };
  required("--from-qmp", &qemu->from_qmp, "ADDRESS", "The source QEMU's monitor");
  required("--to-qmp", &qemu->to_qmp, "ADDRESS", "The destination QEMU's monitor");
  required("--migrate-uri", &qemu->migrate_uri, "URI", "Where the source's QEMU sends the VM");
  migrate
      ->add_option("--incoming", qemu->incoming,
                   "Where the destination's QEMU listens, if started with `-incoming defer`")
      ->type_name("URI");
  migrate->add_flag("--plain", qemu->plain,
                    "As QEMU alone does it, without agents: for comparison");
  migrate->add_flag("--keep-source", qemu->keep_source,
                    "Leave the source's QEMU with its paused copy instead of ending it");
  migrate->add_option("--id", options->handoff_id, "Name the handoff so (default: a new UUID)")
      ->type_name("ID");
  AddHandoffApplyOptions(migrate, options, raw);
}

void AddOwnershipCommands(CLI::App* app, Options* options) {
  CLI::App* reclaim = AddCommand(app, "reclaim", "Let a VM run that came back without a handoff",
                                 kReclaimFooter, Command::kReclaim, options);
  AddVmArgument(reclaim, "The VM, which is on the agent's host again", options);
  reclaim
      ->add_option("--handoff", options->handoff_id,
                   "The handoff that took it away (default: as the agent says)")
      ->type_name("ID");
  CLI::Option* from = reclaim
                          ->add_option("--from", options->from,
                                       "The agent that it was released to: has it disown the VM "
                                       "first, after which only this host lets it run")
                          ->type_name("ADDRESS")
                          ->check(NotEmpty("the address"));
  reclaim
      ->add_flag(
          "--runs-nowhere-else", options->runs_nowhere_else,
          "Your word for it, where that agent is lost: if it is not so, two hosts run the VM")
      ->excludes(from);
  reclaim
      ->add_option("--epoch-above", options->epoch_above,
                   "The VM's highest epoch on any other host (default: not known)")
      ->type_name("N");

  CLI::App* disown = AddCommand(app, "disown", "Bar a VM that left without a handoff",
                                kDisownFooter, Command::kDisown, options);
  AddVmArgument(disown, "The VM, which is on the agent's host no more", options);
  disown->add_option("--handoff", options->handoff_id, "The handoff that had brought it")
      ->type_name("ID")
      ->required();
}

void Declare(CLI::App* app, Options* options, Raw* raw) {
  app->name("tscctl");
  app->set_version_flag("--version", std::string("tscctl ") + tsc_handoff::kVersion);
  app->footer(std::string(kMainFooter) + "\n" + kExitCodes);
  app->require_subcommand(1);
  app->fallthrough();
  app->add_option("--agent", options->agent, "The agent to ask (default " + options->agent + ")")
      ->type_name("ADDRESS");
  app->add_option("-o,--output", raw->output, "How to print (default table)")
      ->type_name("table|json")
      ->check(OneOf({"table", "json"}));
  app->add_option("--timeout", raw->timeout, "For one call to an agent (default 5s)")
      ->type_name("DURATION");

  app->add_option("--context", raw->context, "Use the settings of this context, see contexts")
      ->type_name("NAME")
      ->check(NotEmpty("the context's name"));
  app->add_option("--config", raw->config,
                  "Where the contexts are (default: as `tscctl contexts --help` says)")
      ->type_name("FILE")
      ->check(NotEmpty("the file's name"));

  AddCommand(app, "host", "What the agent's host can do, and how good its clock is", kHostFooter,
             Command::kHost, options);
  AddClockCommand(app, options);
  AddCommand(app, "vms", "The VMs that the agent can reach", kVmsFooter, Command::kVms, options);

  CLI::App* get = AddCommand(app, "get", "Read the TSC state of a paused VM", kGetFooter,
                             Command::kGet, options);
  AddVmArgument(get, "The VM to read", options);
  CLI::Option* out = get->add_option("--out", options->file, "Write the state to this new file")
                         ->type_name("FILE");
  get->add_flag("--force", options->force, "Replace FILE if it exists")->needs(out);

  CLI::App* set = AddCommand(app, "set", "Write a TSC state from a file into a paused VM",
                             kSetFooter, Command::kSet, options);
  AddVmArgument(set, "The VM to write; need not have the name that it had", options);
  set->add_option("--in", options->file, "The state, as `get --out` wrote it")
      ->type_name("FILE")
      ->required();
  AddApplyOptions(set, "", options, raw);
  AddSourceAgent(set, "no probe", options);

  CLI::App* handoff = AddCommand(app, "handoff", "Move a paused VM's TSCs from one host to another",
                                 kHandoffFooter, Command::kHandoff, options);
  AddVmArgument(handoff, "The VM on the source", options);
  AddFrom(handoff, options);
  AddTo(handoff, options);
  handoff->add_option("--to-vm", raw->to_vm, "The VM's id on the destination (default: the same)")
      ->type_name("VM");
  handoff->add_option("--id", options->handoff_id, "Name the handoff so (default: a new UUID)")
      ->type_name("ID");
  AddHandoffApplyOptions(handoff, options, raw);

  CLI::App* resume = AddCommand(app, "resume", "Finish, or undo, a handoff that was begun",
                                kResumeFooter, Command::kResume, options);
  resume->add_option("ID", options->handoff_id, "The handoff")->required()->type_name("");
  AddFrom(resume, options);
  AddTo(resume, options);
  AddHandoffApplyOptions(resume, options, raw);

  CLI::App* abort = AddCommand(app, "abort", "Undo a handoff whose source has not released the VM",
                               kAbortFooter, Command::kAbort, options);
  abort->add_option("ID", options->handoff_id, "The handoff")->required()->type_name("");
  AddFrom(abort, options);
  AddTo(abort, options);

  CLI::App* handoffs = AddCommand(app, "handoffs", "The handoffs that the agent remembers",
                                  kHandoffsFooter, Command::kHandoffs, options);
  handoffs->add_flag("--stuck", options->stuck, "Only those that somebody must finish or abort");
  handoffs->add_flag("--pending", options->pending, "Only those that are not finished");
  handoffs->add_option("--vm", options->vm, "Only those of this VM")->type_name("VM");

  CLI::App* evacuate = AddCommand(app, "evacuate", "Hand over all VMs of a host", kEvacuateFooter,
                                  Command::kEvacuate, options);
  AddFrom(evacuate, options);
  evacuate
      ->add_option_function<std::string>(
          "--to",
          [options](const std::string& text) { options->targets = absl::StrSplit(text, ','); },
          "The destinations' agents")
      ->type_name("ADDRESS[,ADDRESS]...")
      ->required();
  evacuate->add_option("--parallel", options->parallel, "VMs at a time (default 16)")
      ->type_name("N")
      ->check(CLI::Range(1, kMaxParallel).description(""));
  AddHandoffApplyOptions(evacuate, options, raw);

  AddMigrateQemuCommand(app, options, raw);
  AddOwnershipCommands(app, options);
  CLI::App* drain =
      AddCommand(app, "drain", "Have the agent begin no handoff, and wait for the open ones",
                 kDrainFooter, Command::kDrain, options);
  drain->add_option("--wait", raw->wait, "Wait this long for open handoffs to end (default 25s)")
      ->type_name("DURATION");
  AddCommand(app, "undrain", "Let the agent begin handoffs again", kDrainFooter, Command::kUndrain,
             options);
  AddCommand(app, "reload", "Have the agent read its configuration file again", kReloadFooter,
             Command::kReload, options);
  AddFollowCommands(app, options, raw);

  CLI::App* contexts = AddCommand(app, "contexts", "The named settings that --context chooses from",
                                  kContextsFooter, Command::kContexts, options);
  contexts->add_flag("--example", raw->example, "Print a file with everything explained");
  CLI::App* use = AddCommand(app, "use-context", "Make a context the current one", kContextsFooter,
                             Command::kUseContext, options);
  use->add_option("NAME", options->context, "The context")->required()->type_name("");

  CLI::App* decode = AddCommand(app, "decode", "Show a TSC state that was kept in a file",
                                kDecodeFooter, Command::kDecode, options);
  decode->add_option("FILE", options->file, "As `get --out` wrote it")->required()->type_name("");
  AddCommand(app, "version", "The version of tscctl", "", Command::kVersion, options);
}

Problem FinishApply(const Raw& raw, Options* options) {
  v1::SetTscStateRequest* apply = &options->apply;
  const bool exact = raw.mode == "exact";
  apply->set_mode(exact ? v1::APPLY_MODE_EXACT : v1::APPLY_MODE_ELAPSED);
  if (exact) {
    const char* unused = !raw.max_error.empty()           ? "--max-error"
                         : !raw.max_elapsed.empty()       ? "--max-elapsed"
                         : apply->allow_untrusted_clock() ? "--allow-untrusted-clock"
                         : !apply->source_agent().empty() ? "--source-agent"
                         : !options->probe                ? "--no-probe"
                                                          : nullptr;
    if (unused != nullptr)
      return absl::StrCat(unused, " has no meaning with --mode exact, which uses no clock");
  }
  absl::Duration duration;
  if (!raw.max_error.empty()) {
    Problem problem = ParseDurationOption("--max-error", raw.max_error, absl::Nanoseconds(1),
                                          kMaxError, &duration);
    if (!problem.empty()) return problem;
    apply->set_max_error_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration)));
  }
  if (!raw.max_elapsed.empty()) {
    Problem problem = ParseDurationOption("--max-elapsed", raw.max_elapsed, absl::Nanoseconds(1),
                                          kMaxElapsed, &duration);
    if (!problem.empty()) return problem;
    apply->set_max_elapsed_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration)));
  }
  const bool is_set = options->command == Command::kSet || options->command == Command::kHandoff;
  if (apply->validate_only() && !is_set)
    return "--validate-only is for `tscctl set` and `tscctl handoff`";
  if (options->command == Command::kResume || options->command == Command::kEvacuate) return "";
  apply->set_vm_id(raw.to_vm.empty() ? options->vm : raw.to_vm);
  return CheckVmId(apply->vm_id());
}

Problem CheckFile(const std::string& file) {
  if (file.empty()) return "the file's name is empty";
  return file == "-" ? "\"-\" is not supported; name a file" : "";
}

Problem CheckAddress(const std::string& address) {
  return std::string(client::AgentClient::Connect(address).status().message());
}

Problem CheckEnds(const Options& options) {
  Problem problem = CheckAddress(options.from);
  return problem.empty() ? CheckAddress(options.to) : problem;
}

Problem CheckMigrateQemu(const Raw& raw, Options* options) {
  const QemuOptions& qemu = options->qemu;
  for (const std::string& monitor : {qemu.from_qmp, qemu.to_qmp}) {
    const absl::StatusOr<qmp::QmpAddress> address = qmp::ParseQmpAddress(monitor);
    if (!address.ok()) return std::string(address.status().message());
  }
  if (qemu.from_qmp == qemu.to_qmp) return "--from-qmp and --to-qmp are the same monitor";
  if (qemu.migrate_uri.empty()) return "--migrate-uri is empty";
  if (qemu.plain) {
    const bool with_agents = !options->from.empty() || !options->to.empty() || !options->vm.empty();
    return with_agents ? "--plain asks no agent: --from, --to and --vm have no meaning with it"
                       : "";
  }
  if (options->from.empty() || options->to.empty() || options->vm.empty())
    return "--from, --to and --vm are required, except with --plain";
  Problem problem = CheckVmId(options->vm);
  if (problem.empty() && !options->handoff_id.empty())
    problem = CheckId("handoff", options->handoff_id);
  if (problem.empty()) problem = FinishApply(raw, options);
  // QEMU sets the VM's kvmclock when it resumes it, after everything that an agent could write.
  options->apply.set_keep_kvmclock(true);
  return problem.empty() ? CheckEnds(*options) : problem;
}

Problem CheckClock(const Options& options) {
  if (options.to.empty()) return CheckAddress(options.agent);
  if (options.from == options.to) return "A and B are the same agent";
  Problem problem = CheckAddress(options.from);
  return problem.empty() ? CheckAddress(options.to) : problem;
}

Problem CheckOwnership(const Options& options) {
  Problem problem = CheckVmId(options.vm);
  const bool reclaim = options.command == Command::kReclaim;
  if (problem.empty() && !(reclaim && options.handoff_id.empty()))
    problem = CheckId("handoff", options.handoff_id);
  if (problem.empty() && reclaim && options.from.empty() && !options.runs_nowhere_else) {
    problem =
        "say which agent is to disown the VM (--from ADDRESS), or, if that host is lost, "
        "--runs-nowhere-else";
  }
  if (problem.empty() && !options.from.empty()) problem = CheckAddress(options.from);
  return problem.empty() ? CheckAddress(options.agent) : problem;
}

Problem FinishFollow(const Raw& raw, Options* options) {
  if (options->command == Command::kTop && options->json) {
    return "`tscctl top` draws on a terminal; for JSON use `tscctl watch --json`, or `tscctl vms` "
           "and `tscctl handoffs` with -o json";
  }
  if (options->agents.empty()) options->agents = {options->agent};
  std::vector<std::string> once;
  for (const std::string& agent : options->agents) {
    if (std::find(once.begin(), once.end(), agent) != once.end()) continue;
    Problem problem = CheckAddress(agent);
    if (!problem.empty()) return problem;
    once.push_back(agent);
  }
  options->agents = std::move(once);
  if (!options->vm.empty()) {
    Problem problem = CheckVmId(options->vm);
    if (!problem.empty()) return problem;
  }
  return ParseDurationOption("--interval", raw.interval, kMinInterval, kMaxInterval,
                             &options->interval);
}

// What CLI11 does not check.
Problem Finish(const Raw& raw, Options* options) {
  options->json = raw.output == "json";
  Problem problem =
      ParseDurationOption("--timeout", raw.timeout, kMinTimeout, kMaxTimeout, &options->timeout);
  if (!problem.empty()) return problem;
  switch (options->command) {
    case Command::kVersion:
    case Command::kContexts:
    case Command::kUseContext:
      return "";
    case Command::kHost:
    case Command::kVms:
      return CheckAddress(options->agent);
    case Command::kClock:
      return CheckClock(*options);
    case Command::kDecode:
      return CheckFile(options->file);
    case Command::kGet:
      problem = CheckVmId(options->vm);
      if (problem.empty() && options->file == "-") problem = CheckFile(options->file);
      return problem.empty() ? CheckAddress(options->agent) : problem;
    case Command::kSet:
      problem = CheckVmId(options->vm);
      if (problem.empty()) problem = CheckFile(options->file);
      if (problem.empty()) problem = CheckAddress(options->agent);
      return problem.empty() ? FinishApply(raw, options) : problem;
    case Command::kDrain:
      problem = ParseDurationOption("--wait", raw.wait, absl::ZeroDuration(), kMaxTimeout,
                                    &options->wait);
      return problem.empty() ? CheckAddress(options->agent) : problem;
    case Command::kUndrain:
    case Command::kReload:
      return CheckAddress(options->agent);
    case Command::kReclaim:
    case Command::kDisown:
      return CheckOwnership(*options);
    case Command::kHandoffs:
      if (!options->vm.empty()) problem = CheckVmId(options->vm);
      return problem.empty() ? CheckAddress(options->agent) : problem;
    case Command::kTop:
    case Command::kWatch:
      return FinishFollow(raw, options);
    case Command::kResume:
      problem = CheckId("handoff", options->handoff_id);
      if (problem.empty()) problem = FinishApply(raw, options);
      return problem.empty() ? CheckEnds(*options) : problem;
    case Command::kAbort:
      problem = CheckId("handoff", options->handoff_id);
      return problem.empty() ? CheckEnds(*options) : problem;
    case Command::kMigrateQemu:
      return CheckMigrateQemu(raw, options);
    case Command::kEvacuate:
      problem = FinishApply(raw, options);
      if (problem.empty()) problem = CheckAddress(options->from);
      for (const std::string& target : options->targets) {
        if (problem.empty()) problem = CheckAddress(target);
        if (problem.empty() && target == options->from)
          problem = "a host cannot be evacuated to itself";
      }
      return problem;
    case Command::kHandoff:
      problem = CheckVmId(options->vm);
      if (problem.empty() && !options->handoff_id.empty())
        problem = CheckId("handoff", options->handoff_id);
      if (problem.empty()) problem = FinishApply(raw, options);
      if (problem.empty()) problem = CheckEnds(*options);
      if (problem.empty() && options->from == options->to &&
          options->vm == options->apply.vm_id()) {
        problem = "source and destination are the same VM of the same agent";
      }
      return problem;
  }
  return "";
}

// "tscctl get --help" where a command was recognised.
std::string HelpCommand(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  return commands.empty() ? "tscctl --help"
                          : absl::StrCat("tscctl ", commands[0]->get_name(), " --help");
}

// "host, clock, vms and version", with `last` for the "and".
std::string CommandNames(const CLI::App& app, absl::string_view last) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::string final_name = names.back();
  names.pop_back();
  return absl::StrCat(absl::StrJoin(names, ", "), " ", last, " ", final_name);
}

// CLI11's text for a word that is no command tells neither the word nor the commands.
std::string Explain(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> extras = app.remaining();
  if (app.get_subcommands().empty() && !extras.empty() && !absl::StartsWith(extras[0], "-")) {
    return absl::StrCat("\"", extras[0], "\" is no command; the commands are ",
                        CommandNames(app, "and"));
  }
  if (app.get_subcommands().empty() && extras.empty() &&
      dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
    return absl::StrCat("a command is missing: ", CommandNames(app, "or"));
  std::string text = error.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// An option that the command line left open, as if it had been given.
void TakeOver(CLI::App& app, const char* name, const std::string& word) {
  CLI::Option* const option = app.get_option(name);
  if (option->count() > 0) return;
  option->add_result(word);
  option->run_callback();
}

// Tells the wrong setting of any context, as using it would.
Problem CheckContexts(const Contexts& contexts) {
  for (const Context& context : contexts.all) {
    Options options;
    Raw raw;
    CLI::App app;
    Declare(&app, &options, &raw);
    Problem problem = ApplyContext(contexts.path, context.name, app);
    if (!problem.empty()) return problem;
  }
  return "";
}

// Addresses in place of the names that the context has for them.
void ResolveHosts(const Context& context, Options* options) {
  const auto resolve = [&context](std::string& address) {
    const auto found = context.hosts.find(address);
    if (found != context.hosts.end()) address = found->second;
  };
  for (std::string* one : {&options->agent, &options->from, &options->to}) resolve(*one);
  for (std::string& target : options->targets) resolve(target);
  for (std::string& agent : options->agents) resolve(agent);
}

// Reads the contexts, and has the one that is in force fill what is open.
std::optional<UsageError> ApplyContexts(const Raw& raw,
                                        const std::map<std::string, std::string>& env,
                                        CLI::App& app, Options* options) {
  // These need no agent, and must not fail for a file that they do not use.
  if (options->command == Command::kVersion || options->command == Command::kDecode ||
      (options->command == Command::kContexts && raw.example)) {
    options->example = raw.example ? ExampleContexts(app) : "";
    return std::nullopt;
  }
  const auto in_file = [](Problem problem) {
    return UsageError{std::move(problem), "tscctl contexts --help", true};
  };
  Contexts& contexts = options->contexts;
  const std::string path = raw.config.empty() ? ContextsPath(env) : raw.config;
  const bool required = !raw.config.empty() || env.count("TSCCTL_CONFIG") > 0;
  Problem problem = ReadContexts(path, required, &contexts);
  if (!problem.empty()) return in_file(std::move(problem));
  const bool by_argument = options->command == Command::kUseContext;
  if (!by_argument) options->context = raw.context.empty() ? contexts.current : raw.context;
  if (options->command == Command::kContexts) problem = CheckContexts(contexts);
  if (!problem.empty()) return in_file(std::move(problem));
  if (options->context.empty()) return std::nullopt;
  const Context* const context = FindContext(contexts, options->context);
  if (context == nullptr) {
    return UsageError{
        absl::StrCat("there is no context ", options->context, " in ",
                     path.empty() ? "any file" : path, "; there are: ", ContextNames(contexts)),
        "tscctl contexts --help"};
  }
  // Whoever watches without a word wants to see the cluster, rather than the context's one agent.
  const bool follows = options->command == Command::kTop || options->command == Command::kWatch;
  if (follows && options->agents.empty() && app.get_option("--agent")->count() == 0) {
    for (const auto& [name, address] : context->hosts) options->agents.push_back(address);
  }
  problem = ApplyContext(path, context->name, app);
  if (!problem.empty()) return in_file(std::move(problem));
  ResolveHosts(*context, options);
  return std::nullopt;
}

}  // namespace

void DescribeOptions(const std::function<void(const CLI::App&)>& use) {
  Options options;
  Raw raw;
  options.agent = std::string(client::kDefaultAgent);
  CLI::App app(std::string(kMainDescription) + "\n");
  Declare(&app, &options, &raw);
  use(app);
}

std::variant<Options, HelpRequest, UsageError> ParseOptions(
    const std::vector<std::string>& args, const std::map<std::string, std::string>& env) {
  Options options;
  Raw raw;
  const auto agent = env.find("TSC_AGENT");
  options.agent = agent != env.end() && !agent->second.empty() ? agent->second
                                                               : std::string(client::kDefaultAgent);
  CLI::App app(std::string(kMainDescription) + "\n");
  Declare(&app, &options, &raw);
  // CLI11 wants the arguments from the last to the first.
  std::vector<std::string> reversed(args.rbegin(), args.rend());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::Success& done) {
    std::ostringstream text;
    app.exit(done, text, text);
    return HelpRequest{text.str()};
  } catch (const CLI::ParseError& error) {
    return UsageError{Explain(app, error), HelpCommand(app)};
  }
  if (agent != env.end() && !agent->second.empty()) TakeOver(app, "--agent", agent->second);
  std::optional<UsageError> error = ApplyContexts(raw, env, app, &options);
  if (error.has_value()) return *std::move(error);
  Problem problem = Finish(raw, &options);
  if (!problem.empty()) return UsageError{std::move(problem), HelpCommand(app)};
  return options;
}

bool LooksLikeJson(const std::vector<std::string>& args) {
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "-ojson" || args[i] == "--output=json" || args[i] == "--json") return true;
    if ((args[i] == "-o" || args[i] == "--output") && i + 1 < args.size() && args[i + 1] == "json")
      return true;
  }
  return false;
}

}  // namespace tsc_handoff::tscctl
