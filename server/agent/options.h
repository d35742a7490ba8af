// The command line of tsc-agent, and the file that --config names.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_AGENT_OPTIONS_H_
#define TSC_HANDOFF_SERVER_AGENT_OPTIONS_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/agent/agent.h"
#include "server/agent/vm_options.h"
#include "server/clock/clock_tracker.h"

namespace CLI {
class App;
}

namespace tsc_handoff::agent {

// Who is asked how good the wall clock is.
struct ClockOptions {
  enum class Source { kAuto, kChrony, kKernel, kFixed };
  Source source = Source::kAuto;
  std::string chrony_address = "127.0.0.1:323";  // IP:PORT or an absolute path
  int64_t fixed_error_ns = 0;                    // of kFixed
  clock::TrackerOptions tracker;
};

// The settings that take effect when the configuration is read again; the others at a restart.
bool MayChange(const std::string& setting);

struct CommandLine {
  Options options;
  ClockOptions clock;
  VmOptions vms;
  std::string journal = "/var/lib/tsc-handoff/journal.db";
  std::string log_level = "info";
  std::string log_format = "auto";  // text, json; auto: json where systemd's journal reads it
  int64_t drain_limit_ns = 20'000'000'000;
  std::string seccomp = "on";  // off, kill; see server/confine/system_call_filter.h
  std::string policy;          // a file, read into options.policy; empty: none
  std::string config;          // a file; empty: none
  std::string health;          // "agent" or "handoffs": ask the agent that runs, and exit
  bool print_config = false;   // `message` is the file of all settings
  // What the command line and the file have set, by the flags' long names.
  std::map<std::string, std::string> given;
  // Not empty: print this and exit with `exit_code` (--help, --version, or a usage error).
  std::string message;
  int exit_code = 0;
};

// Parses the arguments after the program's name, and reads the file of --config, whose settings the
// command line overrides. Never fails: an error comes back as `message` and exit code 2.
CommandLine ParseCommandLine(const std::vector<std::string>& arguments);

// Shows `use` the definition of the command line, of which the documentation is made.
void DescribeCommandLine(const std::function<void(const CLI::App&)>& use);

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_OPTIONS_H_
