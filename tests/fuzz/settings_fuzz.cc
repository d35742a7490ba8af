// Files of settings and command lines, of the agent and of tscctl. Whatever is in them, the answer
// is settings or a message.
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "client/tscctl/options.h"
#include "server/agent/options.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

enum Kind : uint8_t { kAgentFile = 0, kAgentLine = 1, kContexts = 2, kTscctlLine = 3, kKinds = 4 };

// In memory, where the machine has that: a file for each input.
const std::string& File() {
  static const std::string* const path = [] {
    const char* const memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    auto* made = new std::string(std::string(memory) + "/tsc-fuzz-" + std::to_string(getpid()));
    std::atexit([] { unlink(File().c_str()); });
    return made;
  }();
  return *path;
}

std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words = absl::StrSplit(text, '\n');
  for (std::string& word : words) {
    // A word that names a file to be read: not any file of this machine.
    if (absl::StartsWith(word, "--conf")) word = "--config=" + File();
    if (absl::StartsWith(word, "--tls") || absl::StartsWith(word, "--pol")) word = "--help";
  }
  return words;
}

std::string Input(Kind kind, const std::string& text) {
  return std::string(1, static_cast<char>(kind)) + text;
}

}  // namespace

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  const agent::CommandLine example = agent::ParseCommandLine({"--print-config"});
  seeds.push_back(Input(kAgentFile, example.message.substr(0, 2000)));
  seeds.push_back(Input(kAgentFile,
                        "listen: [unix:/run/a.sock, 127.0.0.1:50051]\nmax-error: 2ms\n"
                        "require-probe: true\nattach-user: [root, nobody]\nlog-level: debug\n"));
  seeds.push_back(Input(kAgentFile, "vm-id-pattern: \"-name (\\\\w+)\"\nclock: fixed:40us\n"));
  seeds.push_back(Input(kAgentFile, "a: &a [*a]\nb: {c: d}\n---\n"));
  seeds.push_back(Input(kAgentLine, "--listen\nunix:/run/a.sock\n--max-error\n1ms\n--attach=on"));
  seeds.push_back(Input(kAgentLine, "--clock\nchrony:127.0.0.1:323\n--metrics-per-vm\n7"));
  seeds.push_back(Input(kContexts,
                        "current-context: lab\ncontexts:\n  lab:\n    agent: a\n    hosts:\n"
                        "      a: 10.0.0.1:50051\n    timeout: 3s\n"));
  seeds.push_back(Input(kTscctlLine, "handoff\nvm1\n--from\na:1\n--to\nb:1\n--max-error\n1ms"));
  seeds.push_back(
      Input(kTscctlLine, "-ojson\n--agent\n[::1]:1\nevacuate\n--from\na:1\n--to\nb:1,c:1"));
  seeds.push_back(Input(kTscctlLine,
                        "migrate-qemu\n--from\na:1\n--to\nb:1\n--vm\nvm1\n--from-qmp\nunix:/a\n"
                        "--to-qmp\ntcp:127.0.0.1:7\n--migrate-uri\ntcp:b:7"));
  return seeds;
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  Bytes bytes(data, size);
  const uint8_t kind = bytes.Take<uint8_t>() % kKinds;
  const std::string rest = bytes.TakeRest();
  if (kind == kAgentFile || kind == kContexts) std::ofstream(File(), std::ios::binary) << rest;
  if (kind == kAgentFile) {
    const agent::CommandLine line = agent::ParseCommandLine({"--config", File()});
    FUZZ_CHECK(line.message.empty() == (line.exit_code == 0));
  } else if (kind == kAgentLine) {
    const agent::CommandLine line = agent::ParseCommandLine(Words(rest));
    FUZZ_CHECK(line.exit_code == 0 || line.exit_code == 2);
    FUZZ_CHECK(line.exit_code == 0 || !line.message.empty());
  } else if (kind == kContexts) {
    (void)tscctl::ParseOptions({"--config", File(), "contexts"}, {});
    (void)tscctl::ParseOptions({"--config", File(), "vms"}, {});
  } else {
    const auto parsed = tscctl::ParseOptions(Words(rest), {});
    const auto* error = std::get_if<tscctl::UsageError>(&parsed);
    FUZZ_CHECK(error == nullptr || !error->message.empty());
  }
  return 0;
}
