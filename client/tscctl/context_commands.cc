#include "client/tscctl/context_commands.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/tscctl/contexts.h"
#include "client/tscctl/format.h"
#include "client/tscctl/json_text.h"

namespace tsc_handoff::tscctl {
namespace {

void PrintJson(const Options& options, Io& io) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Context& context : options.contexts.all) {
    nlohmann::ordered_json one;
    one["name"] = context.name;
    one["in_force"] = context.name == options.context;
    if (context.agent.empty()) {
      one["agent"] = nullptr;
    } else {
      one["agent"] = context.agent;
    }
    one["hosts"] = context.hosts;
    all.push_back(std::move(one));
  }
  nlohmann::ordered_json out;
  out["file"] = options.contexts.path;
  out["contexts"] = std::move(all);
  io.out << DumpJson(out);
}

}  // namespace

Result RunContexts(const Options& options, Io& io) {
  if (!options.example.empty()) {
    io.out << options.example;
    return std::nullopt;
  }
  if (io.json) {
    PrintJson(options, io);
    return std::nullopt;
  }
  if (options.contexts.all.empty()) {
    io.out << "No contexts in " << Printable(options.contexts.path)
           << ". `tscctl contexts --help` says how to make some.\n";
    return std::nullopt;
  }
  Table table({{""}, {"NAME"}, {"AGENT"}, {"HOSTS"}});
  for (const Context& context : options.contexts.all) {
    table.Add({context.name == options.context ? "*" : "", context.name,
               context.agent.empty() ? "-" : context.agent,
               absl::StrJoin(context.hosts, " ", absl::PairFormatter("="))});
  }
  table.Print(io.out_palette, io.out);
  return std::nullopt;
}

Result RunUseContext(const Options& options, Io& io) {
  const std::string problem = UseContext(options.contexts.path, options.context);
  if (!problem.empty()) {
    return FileFailure(absl::UnavailableError(problem),
                       "The current context is what it was. --context NAME needs no change of the "
                       "file.");
  }
  if (io.json) {
    io.out << DumpJson({{"context", options.context}, {"file", options.contexts.path}});
  } else {
    io.out << options.context << " is the current context now.\n";
  }
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
