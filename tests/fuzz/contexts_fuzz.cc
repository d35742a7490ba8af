// tscctl's file of contexts. What is read is sound, and making another context the current one
// changes that alone, or nothing.
#include "absl/strings/match.h"
#include "client/tscctl/contexts.h"
#include "client/tscctl/options.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

using tscctl::Context;
using tscctl::Contexts;

bool Same(const std::vector<Context>& a, const std::vector<Context>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].name != b[i].name || a[i].agent != b[i].agent || a[i].hosts != b[i].hosts)
      return false;
  }
  return true;
}

void CheckIsSound(const Contexts& contexts) {
  FUZZ_CHECK(contexts.current.empty() ||
             tscctl::FindContext(contexts, contexts.current) != nullptr);
  FUZZ_CHECK(!tscctl::ContextNames(contexts).empty());
  for (const Context& context : contexts.all) {
    FUZZ_CHECK(!context.name.empty() && context.name.front() != '-');
    // The first of its name is itself: none is there twice.
    FUZZ_CHECK(tscctl::FindContext(contexts, context.name) == &context);
    for (const auto& [name, address] : context.hosts) FUZZ_CHECK(!name.empty() && !address.empty());
  }
}

void CheckUse(const Contexts& before, const std::string& text) {
  for (const Context& context : before.all) {
    WriteScratchFile(text);
    const std::string problem = tscctl::UseContext(ScratchFile(), context.name);
    if (!problem.empty()) {
      FUZZ_CHECK(ReadScratchFile() == text);
      continue;
    }
    Contexts after;
    FUZZ_CHECK(tscctl::ReadContexts(ScratchFile(), true, &after).empty());
    FUZZ_CHECK(after.current == context.name);
    FUZZ_CHECK(Same(before.all, after.all));
  }
}

// The file, before any command that reads it.
void CheckCommands(const Contexts& contexts) {
  const auto all = tscctl::ParseOptions({"--config", ScratchFile(), "contexts"}, {});
  FUZZ_CHECK(!std::holds_alternative<tscctl::HelpRequest>(all));
  for (const Context& context : contexts.all) {
    const auto one =
        tscctl::ParseOptions({"--config", ScratchFile(), "--context", context.name, "vms"}, {});
    const auto* options = std::get_if<tscctl::Options>(&one);
    FUZZ_CHECK(options == nullptr || options->context == context.name);
    // What `contexts` finds right in all of them is right in each, but for the agent's address,
    // which is judged when it is used.
    const auto* error = std::get_if<tscctl::UsageError>(&one);
    FUZZ_CHECK(error == nullptr || !error->message.empty());
    if (options != nullptr && !context.agent.empty() && context.hosts.count(context.agent) > 0)
      FUZZ_CHECK(options->agent == context.hosts.at(context.agent));
  }
}

}  // namespace

std::vector<std::string> Seeds() {
  return {
      "current-context: lab\ncontexts:\n  lab:\n    agent: a\n    hosts:\n"
      "      a: 10.0.0.1:50051\n    timeout: 3s\n",
      "# mine\ncurrent-context: lab  # for now\n\ncontexts:\n  lab:\n  prod: {agent: b:1}\n",
      "contexts: {lab: {output: json}, prod: {hosts: {h: \"[::1]:1\"}}}\n",
      "contexts:\n  lab: &l {timeout: 1s}\n  prod: *l\n",
      "{current-context: lab, contexts: {lab: ~, prod: ~}}\n",
      "\"current-context\": lab\ncontexts: {lab: ~, prod: ~}\n",
      "contexts:\n  lab: {agent: >\ncurrent-context: x\n }\n",
      ",",
      "%YAML 1.2\n---\ncontexts: {lab: ~}\n",
      "current-context:\n  lab\ncontexts: {lab: ~, prod: ~}\n",
      "contexts: {lab: ~}\ncontexts: {prod: ~}\ncurrent-context: prod\n",
      "current-context: lab\r\ncontexts:\r\n  lab:\r\n  prod:\r\n",
      "contexts: {lab: {tls-ca: x, bad: 1}}\n",
  };
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  const std::string text(reinterpret_cast<const char*>(data), size);
  WriteScratchFile(text);
  Contexts contexts;
  const std::string problem = tscctl::ReadContexts(ScratchFile(), true, &contexts);
  if (!problem.empty()) {
    FUZZ_CHECK(absl::StartsWith(problem, ScratchFile()));
    (void)tscctl::ParseOptions({"--config", ScratchFile(), "vms"}, {});
    return 0;
  }
  CheckIsSound(contexts);
  CheckCommands(contexts);
  CheckUse(contexts, text);
  return 0;
}
