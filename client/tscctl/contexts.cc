#include "client/tscctl/contexts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/lib/agent_client.h"
#include "client/tscctl/whole_file.h"
#include "server/config/text_file.h"
#include "server/config/yaml_file.h"
#include "server/config/yaml_options.h"

namespace tsc_handoff::tscctl {
namespace {

using config::AtLine;
using Problem = std::string;

constexpr size_t kMaxNameBytes = 64;
constexpr char kCurrent[] = "current-context";
constexpr char kContexts[] = "contexts";
constexpr char kHosts[] = "hosts";

// Options that choose the context, and those that ask for no command.
const config::OptionNames kNotInContext = {"config", "context", "help", "version"};

constexpr char kExampleHead[] =
    R"(# Contexts of tscctl: named settings for each cluster. Copy this to ~/.config/tscctl/config.yaml.
# `tscctl contexts` lists them, `tscctl use-context NAME` makes one current, --context NAME chooses
# one for one command. The command line counts before the environment, and that before the context.
current-context: lab

contexts:
  lab:
    # Names that may stand wherever the command line asks for an agent's ADDRESS; `tscctl top` and
    # `tscctl watch` ask all of them.
    hosts:
      host1: 10.0.0.1:50051
      host2: 10.0.0.2:50051
)";

// A name of a context or a host: no address, which has a colon, and no option.
bool IsName(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes || name[0] == '-') return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-')
      return false;
  }
  return true;
}

Problem ReadHosts(const YAML::Node& hosts, const std::string& file, HostNames* out) {
  if (!hosts.IsMap())
    return AtLine(file, hosts.Mark(), "hosts: lines of NAME: ADDRESS were expected");
  for (const auto& entry : hosts) {
    const YAML::Mark mark = entry.first.Mark();
    if (!entry.first.IsScalar() || !IsName(entry.first.Scalar())) {
      return AtLine(file, mark,
                    absl::StrCat("hosts: a name of at most ", kMaxNameBytes,
                                 " letters, digits, '.', '_' and '-' was expected"));
    }
    const std::string name = entry.first.Scalar();
    if (!entry.second.IsScalar())
      return AtLine(file, mark, absl::StrCat("hosts: ", name, ": one address was expected"));
    const std::string address = entry.second.Scalar();
    if (const auto agent = client::AgentClient::Connect(address); !agent.ok())
      return AtLine(file, mark, absl::StrCat("hosts: ", name, ": ", agent.status().message()));
    if (!out->emplace(name, address).second)
      return AtLine(file, mark, absl::StrCat("hosts: ", name, ": it is there twice"));
  }
  return "";
}

Problem ReadContext(const YAML::Node& node, const std::string& file, Context* out) {
  if (node.IsNull()) return "";
  if (!node.IsMap())
    return AtLine(file, node.Mark(),
                  absl::StrCat(out->name, ": lines of KEY: VALUE were expected"));
  if (const YAML::Node agent = node["agent"]; agent.IsDefined() && agent.IsScalar())
    out->agent = agent.Scalar();
  if (const YAML::Node hosts = node[kHosts]; hosts.IsDefined())
    return ReadHosts(hosts, file, &out->hosts);
  return "";
}

Problem ReadAll(const YAML::Node& node, const std::string& file, std::vector<Context>* out) {
  if (node.IsNull()) return "";
  if (!node.IsMap())
    return AtLine(file, node.Mark(), "contexts: lines of NAME: and its settings were expected");
  for (const auto& entry : node) {
    if (!entry.first.IsScalar() || !IsName(entry.first.Scalar())) {
      return AtLine(file, entry.first.Mark(),
                    absl::StrCat("contexts: a name of at most ", kMaxNameBytes,
                                 " letters, digits, '.', '_' and '-' was expected"));
    }
    Context context;
    context.name = entry.first.Scalar();
    for (const Context& other : *out) {
      if (other.name == context.name)
        return AtLine(file, entry.first.Mark(), absl::StrCat(context.name, ": it is there twice"));
    }
    Problem problem = ReadContext(entry.second, file, &context);
    if (!problem.empty()) return problem;
    out->push_back(std::move(context));
  }
  return "";
}

bool Exists(const std::string& path) {
  struct stat about = {};
  return stat(path.c_str(), &about) == 0;
}

Problem ReadContextsText(const std::string& text, const std::string& path, Contexts* out) {
  Problem problem;
  const std::optional<YAML::Node> file = config::ParseYamlMap(text, path, problem);
  if (!file.has_value()) return problem;
  YAML::Mark mark_of_current;
  std::set<std::string> seen;
  for (const auto& entry : *file) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    if (!seen.insert(key).second)
      return AtLine(path, entry.first.Mark(), absl::StrCat(key, ": it is there twice"));
    if (key == kCurrent) {
      if (!entry.second.IsScalar())
        return AtLine(path, entry.first.Mark(), "current-context: the name of one was expected");
      out->current = entry.second.Scalar();
      mark_of_current = entry.first.Mark();
    } else if (key == kContexts) {
      problem = ReadAll(entry.second, path, &out->all);
      if (!problem.empty()) return problem;
    } else {
      return AtLine(path, entry.first.Mark(),
                    absl::StrCat(key, ": current-context or contexts was expected"));
    }
  }
  if (!out->current.empty() && FindContext(*out, out->current) == nullptr) {
    return AtLine(path, mark_of_current,
                  absl::StrCat("current-context: there is no context ", out->current,
                               "; there are: ", ContextNames(*out)));
  }
  return "";
}

// Whether `after` says what `before` says, but for which context is current: that is `name`.
bool DiffersInCurrentAlone(const std::string& before, const std::string& after,
                           const std::string& name) {
  Contexts contexts;
  if (!ReadContextsText(after, "", &contexts).empty() || contexts.current != name) return false;
  const auto text_of = [](const std::string& file) {
    Problem ignored;
    const std::optional<YAML::Node> map = config::ParseYamlMap(file, "", ignored);
    return map.has_value() ? YAML::Dump((*map)[kContexts]) : "";
  };
  return text_of(before) == text_of(after);
}

std::optional<YAML::Node> ReadFile(const std::string& path, Problem& problem) {
  const absl::StatusOr<std::string> text = config::ReadTextFile(path);
  if (text.ok()) return config::ParseYamlMap(*text, path, problem);
  problem = std::string(text.status().message());
  return std::nullopt;
}

// The end of a path that is a symbolic link: the link stays, and the file behind it is replaced.
std::string BehindLinks(const std::string& path) {
  char* const real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return path;
  std::string out = real;
  free(real);
  return out;
}

}  // namespace

std::string ContextsPath(const std::map<std::string, std::string>& env) {
  const auto value = [&env](const char* name) {
    const auto found = env.find(name);
    return found == env.end() ? std::string() : found->second;
  };
  if (std::string file = value("TSCCTL_CONFIG"); !file.empty()) return file;
  constexpr char kFile[] = "/tscctl/config.yaml";
  if (std::string home = value("XDG_CONFIG_HOME"); !home.empty()) return home + kFile;
  if (std::string home = value("HOME"); !home.empty()) return home + "/.config" + kFile;
  return "";
}

std::string ReadContexts(const std::string& path, bool required, Contexts* out) {
  out->path = path;
  if (path.empty() || (!required && !Exists(path))) return "";
  const absl::StatusOr<std::string> text = config::ReadTextFile(path);
  return text.ok() ? ReadContextsText(*text, path, out) : std::string(text.status().message());
}

std::string ApplyContext(const std::string& path, const std::string& name, CLI::App& app) {
  Problem problem;
  const std::optional<YAML::Node> file = ReadFile(path, problem);
  if (!file.has_value()) return problem;
  const YAML::Node context = (*file)[kContexts][name];
  return context.IsMap() ? config::ApplyYamlMap(app, context, path, kNotInContext, {kHosts}) : "";
}

std::string UseContext(const std::string& path, const std::string& name) {
  const absl::StatusOr<std::string> text = config::ReadTextFile(path);
  if (!text.ok()) return std::string(text.status().message());
  const std::string line = absl::StrCat(kCurrent, ": ", name);
  // By lines, because yaml-cpp would write the file without its comments. A key of the outermost
  // map begins its line, and a context's name is one word, so its line has nothing else of it. That
  // is how everybody writes it; another way is found out before anything is written.
  std::vector<std::string> lines = absl::StrSplit(*text, '\n');
  bool found = false;
  for (std::string& old : lines) {
    if (!absl::StartsWith(old, absl::StrCat(kCurrent, ":"))) continue;
    const size_t comment = old.find(" #");
    const size_t end = comment == std::string::npos ? comment : old.find_last_not_of(' ', comment);
    old = end == std::string::npos ? line : absl::StrCat(line, old.substr(end + 1));
    found = true;
  }
  if (!found) lines.insert(lines.begin(), line);
  const std::string changed = absl::StrJoin(lines, "\n");
  if (!DiffersInCurrentAlone(*text, changed, name)) {
    return absl::StrCat(path, ": it is written in a way in which this line cannot be changed by ",
                        "itself: change it yourself to \"", line, "\"");
  }
  const std::string target = BehindLinks(path);
  struct stat about = {};
  if (stat(target.c_str(), &about) != 0)
    return std::string(FileError(errno, "look at", target).message());
  return std::string(WriteWholeFile(target, changed, true, about.st_mode & 07777).message());
}

const Context* FindContext(const Contexts& contexts, const std::string& name) {
  for (const Context& context : contexts.all) {
    if (context.name == name) return &context;
  }
  return nullptr;
}

std::string ContextNames(const Contexts& contexts) {
  if (contexts.all.empty()) return "none";
  return absl::StrJoin(contexts.all, ", ", [](std::string* out, const Context& context) {
    absl::StrAppend(out, context.name);
  });
}

std::string ExampleContexts(const CLI::App& app) {
  std::string out = kExampleHead;
  const std::string options = config::ExampleYaml(app, kNotInContext);
  for (const absl::string_view line : absl::StrSplit(absl::StripSuffix(options, "\n"), '\n'))
    absl::StrAppend(&out, line.empty() ? "" : "    ", line, "\n");
  return out;
}

}  // namespace tsc_handoff::tscctl
