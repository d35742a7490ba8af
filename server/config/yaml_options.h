// A program's options from a YAML file: each key is the long name of a flag, and means what the
// flag means. So there is one definition of the settings, their checks and their help: the
// CLI::App.
//
//   max-error: 2ms
//   listen: [unix:/run/tsc-handoff/agent.sock, 127.0.0.1:50051]
//   require-probe: true
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_CONFIG_YAML_OPTIONS_H_
#define TSC_HANDOFF_SERVER_CONFIG_YAML_OPTIONS_H_

#include <map>
#include <set>
#include <string>

namespace CLI {
class App;
}
namespace YAML {
class Node;
}

namespace tsc_handoff::config {

// Of options, those that make no sense in a file: they are unknown there.
using OptionNames = std::set<std::string>;

// Gives the options that the command line left open the values that `path` has for them. To be
// called after CLI::App::parse. Returns what is wrong, as "FILE:LINE: KEY: what was expected";
// empty when nothing is. What comes before a fault may have been taken over by then.
std::string ApplyYaml(CLI::App& app, const std::string& path, const OptionNames& not_in_file);

// The same of a text; `name` stands for the file in what is said of it.
std::string ApplyYamlText(CLI::App& app, const std::string& text, const std::string& name,
                          const OptionNames& not_in_file);

// The same of a map, which may be a part of a file. Keys in `read_elsewhere` are passed over.
std::string ApplyYamlMap(CLI::App& app, const YAML::Node& map, const std::string& name,
                         const OptionNames& not_in_file, const OptionNames& read_elsewhere = {});

// A file that sets nothing, and has every key with its help and default in comments.
std::string ExampleYaml(const CLI::App& app, const OptionNames& not_in_file);

// What has been given, by the command line or a file: long names and the words.
std::map<std::string, std::string> GivenOptions(const CLI::App& app);

}  // namespace tsc_handoff::config

#endif  // TSC_HANDOFF_SERVER_CONFIG_YAML_OPTIONS_H_
