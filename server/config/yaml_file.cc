#include "server/config/yaml_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::config {
namespace {

constexpr off_t kMaxFileBytes = 1 << 20;

}  // namespace

std::string AtLine(const std::string& name, const YAML::Mark& mark, const std::string& what) {
  // yaml-cpp counts from 0, and has no place for an empty document.
  return mark.is_null() ? absl::StrCat(name, ": ", what)
                        : absl::StrCat(name, ":", mark.line + 1, ": ", what);
}

std::optional<std::string> ReadYamlFile(const std::string& path, std::string& problem) {
  struct stat about = {};
  std::ifstream file(path);
  if (!file || stat(path.c_str(), &about) != 0) {
    problem = absl::StrCat(path, ": cannot be read: ", strerror(errno));
  } else if (!S_ISREG(about.st_mode) || about.st_size > kMaxFileBytes) {
    problem = absl::StrCat(path, ": must be a file of at most ", kMaxFileBytes, " bytes");
  } else {
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  return std::nullopt;
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
