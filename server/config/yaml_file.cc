#include "server/config/yaml_file.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::config {
std::string AtLine(const std::string& name, const YAML::Mark& mark, const std::string& what) {
  // yaml-cpp counts from 0, and has no place for an empty document.
  return mark.is_null() ? absl::StrCat(name, ": ", what)
                        : absl::StrCat(name, ":", mark.line + 1, ": ", what);
}

std::optional<YAML::Node> ParseYamlMap(const std::string& text, const std::string& name,
                                       std::string& problem) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      problem = AtLine(name, documents[1].Mark(), "a second document");
    } else if (documents.empty() || documents.front().IsNull()) {
      return YAML::Node(YAML::NodeType::Map);
    } else if (!documents.front().IsMap()) {
      problem = AtLine(name, documents.front().Mark(), "lines of KEY: VALUE were expected");
    } else {
      return documents.front();
    }
  } catch (const YAML::Exception& error) {
    problem = AtLine(name, error.mark, absl::StrCat("this is no YAML: ", error.msg));
  }
  return std::nullopt;
}

}  // namespace tsc_handoff::config
