// Settings files in YAML: what is wrong in them is said with the line.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_SERVER_CONFIG_YAML_FILE_H_
#define TSC_HANDOFF_SERVER_CONFIG_YAML_FILE_H_

#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>

namespace tsc_handoff::config {

// "NAME:LINE: WHAT"; without the line where the mark has none.
std::string AtLine(const std::string& name, const YAML::Mark& mark, const std::string& what);

// The one document of a text, a map that may be empty; nothing, and why in `problem`, where it is
// anything else. `name` stands for the file in what is said of it.
std::optional<YAML::Node> ParseYamlMap(const std::string& text, const std::string& name,
                                       std::string& problem);

}  // namespace tsc_handoff::config

#endif  // TSC_HANDOFF_SERVER_CONFIG_YAML_FILE_H_
