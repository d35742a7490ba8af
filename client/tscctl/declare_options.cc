#include "client/tscctl/declare_options.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/tscctl/help_text.h"
#include "client/tscctl/peer_address.h"
#include "server/base/version.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr int kMaxParallel = 256;

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
                     OptionWords* words) {
  v1::SetTscStateRequest* apply = &options->apply;
  CLI::Option* mode =
      command->add_option("--mode", words->mode,
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
  duration("--max-error", &words->max_error,
           "Refuse when guest time's error bound would be above this (default: the agent's limit)");
  duration("--max-elapsed", &words->max_elapsed,
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
void AddHandoffApplyOptions(CLI::App* command, Options* options, OptionWords* words) {
  AddApplyOptions(command, "elapsed", options, words);
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
void AddFollowOptions(CLI::App* command, Options* options, OptionWords* words) {
  command
      ->add_option("--agent", options->agents,
                   "The agents to ask; may be given several times (default: as of --agent before "
                   "the command)")
      ->type_name("ADDRESS[,ADDRESS]...")
      ->delimiter(',');
  command->add_option("--interval", words->interval, "How often to ask (default 1s)")
      ->type_name("DURATION");
}

void AddFollowCommands(CLI::App* app, Options* options, OptionWords* words) {
  CLI::App* top = AddCommand(app, "top", "Hosts, VMs and handoffs on the whole screen, live",
                             kTopFooter, Command::kTop, options);
  AddFollowOptions(top, options, words);
  CLI::App* watch = AddCommand(app, "watch", "Print what happens, a line for each event",
                               kWatchFooter, Command::kWatch, options);
  AddFollowOptions(watch, options, words);
  watch->add_option("--vm", options->vm, "Only handoffs of this VM")->type_name("VM");
  watch->add_flag_callback(
      "--json", [words] { words->output = "json"; }, "The same as -o json: each line is an object");
}

void AddMigrateQemuCommand(CLI::App* app, Options* options, OptionWords* words) {
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
      ->add_option("--to-vm", words->to_vm,
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
  AddHandoffApplyOptions(migrate, options, words);
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

}  // namespace

void DeclareOptions(CLI::App* app, Options* options, OptionWords* words) {
  app->name("tscctl");
  app->set_version_flag("--version", std::string("tscctl ") + tsc_handoff::kVersion);
  app->footer(std::string(kMainFooter) + "\n" + kExitCodes);
  app->require_subcommand(1);
  app->fallthrough();
  app->add_option("--agent", options->agent, "The agent to ask (default " + options->agent + ")")
      ->type_name("ADDRESS");
  app->add_option("-o,--output", words->output, "How to print (default table)")
      ->type_name("table|json")
      ->check(OneOf({"table", "json"}));
  app->add_option("--timeout", words->timeout, "For one call to an agent (default 5s)")
      ->type_name("DURATION");
  AddTlsOptions(app, &options->tls);

  app->add_option("--context", words->context, "Use the settings of this context, see contexts")
      ->type_name("NAME")
      ->check(NotEmpty("the context's name"));
  app->add_option("--config", words->config,
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
  AddApplyOptions(set, "", options, words);
  AddSourceAgent(set, "no probe", options);

  CLI::App* handoff = AddCommand(app, "handoff", "Move a paused VM's TSCs from one host to another",
                                 kHandoffFooter, Command::kHandoff, options);
  AddVmArgument(handoff, "The VM on the source", options);
  AddFrom(handoff, options);
  AddTo(handoff, options);
  handoff->add_option("--to-vm", words->to_vm, "The VM's id on the destination (default: the same)")
      ->type_name("VM");
  handoff->add_option("--id", options->handoff_id, "Name the handoff so (default: a new UUID)")
      ->type_name("ID");
  AddHandoffApplyOptions(handoff, options, words);

  CLI::App* resume = AddCommand(app, "resume", "Finish, or undo, a handoff that was begun",
                                kResumeFooter, Command::kResume, options);
  resume->add_option("ID", options->handoff_id, "The handoff")->required()->type_name("");
  AddFrom(resume, options);
  AddTo(resume, options);
  AddHandoffApplyOptions(resume, options, words);

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
  AddHandoffApplyOptions(evacuate, options, words);

  AddMigrateQemuCommand(app, options, words);
  AddOwnershipCommands(app, options);
  CLI::App* drain =
      AddCommand(app, "drain", "Have the agent begin no handoff, and wait for the open ones",
                 kDrainFooter, Command::kDrain, options);
  drain->add_option("--wait", words->wait, "Wait this long for open handoffs to end (default 25s)")
      ->type_name("DURATION");
  AddCommand(app, "undrain", "Let the agent begin handoffs again", kDrainFooter, Command::kUndrain,
             options);
  AddCommand(app, "reload", "Have the agent read its configuration file again", kReloadFooter,
             Command::kReload, options);
  AddFollowCommands(app, options, words);

  CLI::App* contexts = AddCommand(app, "contexts", "The named settings that --context chooses from",
                                  kContextsFooter, Command::kContexts, options);
  contexts->add_flag("--example", words->example, "Print a file with everything explained");
  CLI::App* use = AddCommand(app, "use-context", "Make a context the current one", kContextsFooter,
                             Command::kUseContext, options);
  use->add_option("NAME", options->context, "The context")->required()->type_name("");

  CLI::App* decode = AddCommand(app, "decode", "Show a TSC state that was kept in a file",
                                kDecodeFooter, Command::kDecode, options);
  decode->add_option("FILE", options->file, "As `get --out` wrote it")->required()->type_name("");
  AddCommand(app, "version", "The version of tscctl", "", Command::kVersion, options);
}

}  // namespace tsc_handoff::tscctl
