// tsc-agent's command line and its file of settings. Whatever is in them, the answer is settings or
// a message; and a file with what a command line gave means the same as that command line.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/agent/options.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/vocabulary.h"

namespace tsc_handoff::fuzz {
namespace {

using agent::CommandLine;

enum Kind : uint8_t { kFile = 0, kLine = 1, kKinds = 2 };

constexpr int64_t kTenYearsNs = int64_t{24} * 3650 * 3600 * 1'000'000'000;

const Vocabulary& Words() {
  static const auto* const words =
      new Vocabulary(agent::DescribeCommandLine, {"1ms",
                                                  "40us",
                                                  "5m",
                                                  "0",
                                                  "1",
                                                  "7",
                                                  "1000",
                                                  "-1",
                                                  "true",
                                                  "false",
                                                  "fixed:40us",
                                                  "chrony",
                                                  "chrony:127.0.0.1:323",
                                                  "unix:/run/a.sock",
                                                  "127.0.0.1:50051",
                                                  "[::1]:1",
                                                  "0.0.0.0:50051",
                                                  "host1:50051",
                                                  "/etc/x.pem",
                                                  "root",
                                                  "libvirt-qemu",
                                                  "/machine.slice",
                                                  "-name (\\w+)",
                                                  ""});
  return *words;
}

// A word that names a file to be read: not any file of this machine.
void KeepOffFiles(std::vector<std::string>& words) {
  for (std::string& word : words) {
    if (absl::StartsWith(word, "--config") || absl::StartsWith(word, "--policy"))
      word = absl::StrCat(word.substr(0, 8), "=", ScratchFile());
  }
}

void CheckIsComplete(const CommandLine& line) {
  FUZZ_CHECK(line.exit_code == 0 || line.exit_code == 2);
  FUZZ_CHECK(line.exit_code == 0 || !line.message.empty());
  if (!line.message.empty()) return;
  FUZZ_CHECK(line.drain_limit_ns > 0 && line.drain_limit_ns <= kTenYearsNs);
  FUZZ_CHECK(line.clock.tracker.drift_ppm >= 1 && line.clock.tracker.drift_ppm <= 1000);
  FUZZ_CHECK(line.clock.source != agent::ClockOptions::Source::kFixed ||
             line.clock.fixed_error_ns > 0);
}

// A word in YAML's double quotes; empty where it has a character that takes more than quotes.
std::string Quoted(const std::string& word) {
  std::string out = "\"";
  for (const char c : word) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) return "";
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

// What the line gave, as a file; empty where a value cannot be told apart or written.
std::string AsFile(const CommandLine& line) {
  std::string file;
  for (const auto& [key, value] : line.given) {
    if (key == "config" || key == "policy") return "";
    // GivenOptions joins a list's words with spaces, so an empty word may hide in it.
    if (value.empty() || absl::StrContains(value, "  ") || value.front() == ' ' ||
        value.back() == ' ')
      return "";
    std::vector<std::string> words;
    for (const absl::string_view word : absl::StrSplit(value, ' ')) {
      words.push_back(Quoted(std::string(word)));
      if (words.back().empty()) return "";
    }
    const std::string list = absl::StrJoin(words, ", ");
    absl::StrAppend(&file, key, ": ", words.size() == 1 ? list : absl::StrCat("[", list, "]"),
                    "\n");
  }
  return file;
}

void CheckSameAsFile(const CommandLine& line) {
  if (!line.message.empty() || !line.health.empty() || line.print_config) return;
  const std::string text = AsFile(line);
  if (text.empty()) return;
  WriteScratchFile(text);
  const CommandLine file = agent::ParseCommandLine({"--config", ScratchFile()});
  // A pattern with a space in it looks like a list, and is refused as one.
  if (!file.message.empty()) {
    FUZZ_CHECK(absl::StrContains(file.message, "one word was expected"));
    return;
  }
  auto given = file.given;
  given.erase("config");
  FUZZ_CHECK(given == line.given);
  FUZZ_CHECK(file.clock.source == line.clock.source);
  FUZZ_CHECK(file.clock.fixed_error_ns == line.clock.fixed_error_ns);
  FUZZ_CHECK(file.drain_limit_ns == line.drain_limit_ns);
  FUZZ_CHECK(file.journal == line.journal && file.log_level == line.log_level);
  FUZZ_CHECK(file.seccomp == line.seccomp);
}

std::string Input(Kind kind, const std::string& text) {
  return std::string(1, static_cast<char>(kind)) + text;
}

}  // namespace

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  const CommandLine example = agent::ParseCommandLine({"--print-config"});
  // With every setting switched on, and in pieces that a fuzzer can handle.
  std::string settings;
  for (const absl::string_view line : absl::StrSplit(example.message, '\n')) {
    if (absl::StartsWith(line, "#") && absl::StrContains(line, ":") &&
        !absl::StartsWith(line, "# "))
      absl::StrAppend(&settings, line.substr(1), "\n");
  }
  seeds.push_back(Input(kFile, settings));
  seeds.push_back(Input(kFile, example.message.substr(0, 2000)));
  seeds.push_back(Input(kFile,
                        "listen: [unix:/run/a.sock, 127.0.0.1:50051]\nmax-error: 2ms\n"
                        "require-probe: true\nattach-user: [root, nobody]\nlog-level: debug\n"));
  seeds.push_back(Input(kFile, "vm-id-pattern: \"-name (\\\\w+)\"\nclock: fixed:40us\n"));
  seeds.push_back(Input(kFile, "a: &a [*a]\nb: {c: d}\n---\n"));
  seeds.push_back(Input(kFile, "listen: &l [*l]\n"));
  // yaml-cpp made documents without end of these.
  seeds.push_back(Input(kFile, ","));
  seeds.push_back(Input(kFile, ",m-id-pattern: \xff\xffme (\\w\n"));
  const std::vector<std::string> lines[] = {
      {"--listen", "unix:/run/a.sock", "--max-error", "1ms", "--attach=on"},
      {"--clock", "chrony:127.0.0.1:323", "--metrics-per-vm", "7"},
      {"--clock", "fixed:40us", "--log-level", "debug", "--require-probe"},
      {"--listen", "0.0.0.0:50051", "--tls-cert", "/etc/x.pem", "--tls-key", "/etc/x.pem",
       "--tls-ca", "/etc/x.pem", "--peer-address", "host1:50051"},
      {"--attach", "on", "--attach-user", "root", "--attach-cgroup", "/machine.slice",
       "--vm-id-pattern", "-name (\\w+)"},
      {"--health", "agent"},
      {"--config", "x", "--policy", "x"},
  };
  for (const std::vector<std::string>& line : lines)
    seeds.push_back(Input(kLine, Words().Spell(line)));
  return seeds;
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  Bytes bytes(data, size);
  if (bytes.Take<uint8_t>() % kKinds == kFile) {
    // A policy named by the file would be read.
    const std::string text = bytes.TakeRest();
    if (absl::StrContains(text, "policy")) return 0;
    WriteScratchFile(text);
    CheckIsComplete(agent::ParseCommandLine({"--config", ScratchFile()}));
    return 0;
  }
  std::vector<std::string> words = Words().Take(bytes);
  KeepOffFiles(words);
  WriteScratchFile("log-level: debug\n");
  const CommandLine line = agent::ParseCommandLine(words);
  CheckIsComplete(line);
  CheckSameAsFile(line);
  return 0;
}
