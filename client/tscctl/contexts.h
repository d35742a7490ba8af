// Contexts: named settings of tscctl in a YAML file, so that who works with several clusters, or
// with hosts whose addresses nobody remembers, types names.
//
//   current-context: lab
//   contexts:
//     lab:
//       agent: host1               # any option of tscctl that stands before the command
//       timeout: 20s
//       hosts:                     # names that may stand wherever an agent's address may
//         host1: 10.0.0.1:50051
//         host2: 10.0.0.2:50051
//
// The command line counts before the environment, and that before the context.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CONTEXTS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CONTEXTS_H_

#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace tsc_handoff::tscctl {

// From a name to the address of that host's agent.
using HostNames = std::map<std::string, std::string>;

struct Context {
  std::string name;
  // As the file has it, possibly a host's name; empty where it has none.
  std::string agent;
  HostNames hosts;
};

struct Contexts {
  // The file, or where it would be; empty when not even that is known.
  std::string path;
  // Empty when none is current.
  std::string current;
  // In the file's order.
  std::vector<Context> all;
};

// Where the contexts are: $TSCCTL_CONFIG, or tscctl/config.yaml in $XDG_CONFIG_HOME or ~/.config.
// Empty where the environment has none of these.
std::string ContextsPath(const std::map<std::string, std::string>& env);

// Reads the file; a context's options are not checked before it is applied. A file that does not
// exist has no contexts, unless it is `required`. Returns what is wrong, as
// "FILE:LINE: KEY: what was expected"; empty when nothing is.
std::string ReadContexts(const std::string& path, bool required, Contexts* out);

// Gives the options that are still open what the context `name` has for them. Returns what is
// wrong, as above.
std::string ApplyContext(const std::string& path, const std::string& name, CLI::App& app);

// Makes `name`, which is one, the file's current context and leaves all else in it as it is,
// comments too. The file is replaced as a whole or not at all; not where that line has no place of
// its own in it. Returns what went wrong; empty when nothing did.
std::string UseContext(const std::string& path, const std::string& name);

// The context `name`; nullptr when there is none.
const Context* FindContext(const Contexts& contexts, const std::string& name);

// The names of all contexts, for a message: "lab, production"; "none" when there are none.
std::string ContextNames(const Contexts& contexts);

// A file that sets nothing and explains everything.
std::string ExampleContexts(const CLI::App& app);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CONTEXTS_H_
