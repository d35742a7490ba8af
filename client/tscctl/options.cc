#include "client/tscctl/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/lib/agent_client.h"
#include "client/tscctl/check_options.h"
#include "client/tscctl/contexts.h"
#include "client/tscctl/declare_options.h"
#include "client/tscctl/help_text.h"
#include "client/tscctl/option_words.h"

namespace tsc_handoff::tscctl {
namespace {

// What is wrong, empty when all is well.
using Problem = std::string;

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
    OptionWords words;
    CLI::App app;
    DeclareOptions(&app, &options, &words);
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
std::optional<UsageError> ApplyContexts(const OptionWords& words,
                                        const std::map<std::string, std::string>& env,
                                        CLI::App& app, Options* options) {
  // These need no agent, and must not fail for a file that they do not use.
  if (options->command == Command::kVersion || options->command == Command::kDecode ||
      (options->command == Command::kContexts && words.example)) {
    options->example = words.example ? ExampleContexts(app) : "";
    return std::nullopt;
  }
  const auto in_file = [](Problem problem) {
    return UsageError{std::move(problem), "tscctl contexts --help", true};
  };
  Contexts& contexts = options->contexts;
  const std::string path = words.config.empty() ? ContextsPath(env) : words.config;
  const bool required = !words.config.empty() || env.count("TSCCTL_CONFIG") > 0;
  Problem problem = ReadContexts(path, required, &contexts);
  if (!problem.empty()) return in_file(std::move(problem));
  const bool by_argument = options->command == Command::kUseContext;
  if (!by_argument) options->context = words.context.empty() ? contexts.current : words.context;
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
  OptionWords words;
  options.agent = std::string(client::kDefaultAgent);
  CLI::App app(std::string(kMainDescription) + "\n");
  DeclareOptions(&app, &options, &words);
  use(app);
}

std::variant<Options, HelpRequest, UsageError> ParseOptions(
    const std::vector<std::string>& args, const std::map<std::string, std::string>& env) {
  Options options;
  OptionWords words;
  const auto agent = env.find("TSC_AGENT");
  options.agent = agent != env.end() && !agent->second.empty() ? agent->second
                                                               : std::string(client::kDefaultAgent);
  CLI::App app(std::string(kMainDescription) + "\n");
  DeclareOptions(&app, &options, &words);
  // CLI11 wants the arguments from the last to the first.
  std::vector<std::string> reversed(args.rbegin(), args.rend());
  try {
    app.parse(std::move(reversed));
    ApplyTlsEnvironment(env, app);
  } catch (const CLI::Success& done) {
    std::ostringstream text;
    app.exit(done, text, text);
    return HelpRequest{text.str()};
  } catch (const CLI::ParseError& error) {
    return UsageError{Explain(app, error), HelpCommand(app)};
  }
  if (agent != env.end() && !agent->second.empty()) TakeOver(app, "--agent", agent->second);
  std::optional<UsageError> error = ApplyContexts(words, env, app, &options);
  if (error.has_value()) return *std::move(error);
  Problem problem = CheckOptions(words, &options);
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
