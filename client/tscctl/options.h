// What the command line asks for.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_OPTIONS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "client/tscctl/contexts.h"
#include "client/tscctl/tls_options.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace CLI {
class App;
}

namespace tsc_handoff::tscctl {

enum class Command {
  kHost,
  kClock,
  kVms,
  kGet,
  kSet,
  kHandoff,
  kResume,
  kAbort,
  kHandoffs,
  kEvacuate,
  kMigrateQemu,
  kReclaim,
  kDisown,
  kDrain,
  kUndrain,
  kReload,
  kTop,
  kWatch,
  kContexts,
  kUseContext,
  kDecode,
  kVersion,
};

// migrate-qemu: the two QEMUs.
struct QemuOptions {
  std::string from_qmp;
  std::string to_qmp;
  std::string migrate_uri;
  // Empty: the destination listens already.
  std::string incoming;
  // Without a handoff, as QEMU alone does it.
  bool plain = false;
  bool keep_source = false;
};

struct Options {
  Command command = Command::kVersion;
  std::string agent;
  absl::Duration timeout = absl::Seconds(5);
  TlsOptions tls;
  bool json = false;

  // get, set, handoff, migrate-qemu, reclaim, disown; handoffs, watch: empty for all VMs.
  std::string vm;
  // resume, abort, disown; handoff, migrate-qemu: empty for a new one; reclaim: for what the agent
  // says.
  std::string handoff_id;
  // get --out, set --in, decode.
  std::string file;
  bool force = false;
  // handoff, resume, abort, evacuate, migrate-qemu: source and destination. reclaim: the host that
  // has it no more, or empty. clock: the two agents
  // to compare, or empty for --agent alone.
  std::string from;
  std::string to;
  // evacuate: the destinations, and how many VMs at a time.
  std::vector<std::string> targets;
  int parallel = 16;
  // reclaim: the operator's word, and what he knows of other hosts.
  bool runs_nowhere_else = false;
  uint64_t epoch_above = 0;
  // drain: for how long to wait for what is open.
  absl::Duration wait = absl::Seconds(25);
  // handoffs: only the undecided, or the pending ones.
  bool stuck = false;
  bool pending = false;
  // top, watch: whom to ask, at least one, and how often.
  std::vector<std::string> agents;
  absl::Duration interval = absl::Seconds(1);
  // clock: where `from` reaches `to`; empty for what `to` says of itself.
  std::string peer;
  // handoff: have the source's clock probed at the address that its agent says of itself.
  bool probe = true;
  QemuOptions qemu;
  // contexts, use-context: what the file has, and which of them is in force here.
  Contexts contexts;
  std::string context;
  // contexts: print this instead, when it is not empty.
  std::string example;
  // set, handoff, migrate-qemu: mode, policies, whom to probe and the VM to write.
  tschandoff::v1::SetTscStateRequest apply;
};

// --help and the like: text for stdout, and nothing more to do.
struct HelpRequest {
  std::string text;
};

struct UsageError {
  // What is wrong, in one line.
  std::string message;
  // The help to look at: "tscctl get --help".
  std::string help_command;
  // It is not the command line that is wrong but the file of contexts.
  bool in_file = false;
};

// `args` without the program's name; `env` for TSC_AGENT, TSC_TLS_... and where the contexts are.
// Reads the file of contexts.
std::variant<Options, HelpRequest, UsageError> ParseOptions(
    const std::vector<std::string>& args, const std::map<std::string, std::string>& env);

// Shows `use` the definition of the command line, of which the documentation is made.
void DescribeOptions(const std::function<void(const CLI::App&)>& use);

// Whether `args` ask for JSON, as far as can be told where they cannot be parsed.
bool LooksLikeJson(const std::vector<std::string>& args);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_OPTIONS_H_
