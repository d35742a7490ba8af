// tscctl's command line. Whatever is in it, the answer is a request for help, one line that says
// what is wrong, or options in which everything is in its range; the same each time.
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/tscctl/options.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/vocabulary.h"

namespace tsc_handoff::fuzz {
namespace {

using tscctl::Command;
using tscctl::Options;
using Parsed = std::variant<Options, tscctl::HelpRequest, tscctl::UsageError>;

constexpr int64_t kHourNs = int64_t{3600} * 1'000'000'000;

constexpr char kContexts[] =
    "current-context: lab\ncontexts:\n  lab:\n    agent: a\n    hosts:\n      a: 10.0.0.1:50051\n"
    "      b: 10.0.0.2:50051\n    timeout: 3s\n  other: {output: json}\n";

const Vocabulary& Words() {
  static const auto* const words = new Vocabulary(tscctl::DescribeOptions, {"1ms",
                                                                            "5s",
                                                                            "0",
                                                                            "1",
                                                                            "16",
                                                                            "-1",
                                                                            "vm1",
                                                                            "h-1",
                                                                            "a",
                                                                            "b",
                                                                            "a:1",
                                                                            "b:1",
                                                                            "b:1,c:1",
                                                                            "[::1]:1",
                                                                            "unix:/run/a.sock",
                                                                            "unix:/a",
                                                                            "127.0.0.1:7",
                                                                            "tcp:b:7",
                                                                            "lab",
                                                                            "other",
                                                                            "/tmp/state",
                                                                            "host1:50051",
                                                                            "18446744073709551615",
                                                                            ""});
  return *words;
}

// The contexts are those above, and none of this machine's.
void KeepOffFiles(std::vector<std::string>& words) {
  for (std::string& word : words) {
    if (absl::StartsWith(word, "--config")) word = absl::StrCat("--config=", ScratchFile());
  }
}

bool IsId(const std::string& text) {
  if (text.empty() || text.size() > 128) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("._:-", absl::string_view(&c, 1)))
      return false;
  }
  return true;
}

bool NamesVm(Command command) {
  return command == Command::kGet || command == Command::kSet || command == Command::kHandoff ||
         command == Command::kReclaim || command == Command::kDisown;
}

bool NamesHandoff(Command command) {
  return command == Command::kResume || command == Command::kAbort || command == Command::kDisown;
}

void CheckInRange(const Options& options) {
  FUZZ_CHECK(options.timeout >= absl::Milliseconds(1) && options.timeout <= absl::Minutes(10));
  FUZZ_CHECK(options.parallel >= 1 && options.parallel <= 256);
  FUZZ_CHECK(options.interval >= absl::Milliseconds(100) && options.interval <= absl::Hours(1));
  FUZZ_CHECK(options.wait >= absl::ZeroDuration() && options.wait <= absl::Minutes(10));
  FUZZ_CHECK(options.apply.max_error_ns() <= static_cast<uint64_t>(kHourNs));
  FUZZ_CHECK(options.apply.max_elapsed_ns() <= static_cast<uint64_t>(kHourNs) * 24 * 3650);
  if (NamesVm(options.command)) FUZZ_CHECK(IsId(options.vm));
  if (NamesHandoff(options.command)) FUZZ_CHECK(IsId(options.handoff_id));
  if (options.command == Command::kHandoff) {
    FUZZ_CHECK(IsId(options.apply.vm_id()));
    FUZZ_CHECK(options.handoff_id.empty() || IsId(options.handoff_id));
    FUZZ_CHECK(options.from != options.to || options.vm != options.apply.vm_id());
    FUZZ_CHECK(!options.from.empty() && !options.to.empty());
  }
  if (options.command == Command::kSet || options.command == Command::kDecode)
    FUZZ_CHECK(!options.file.empty());
  if (options.command == Command::kReclaim)
    FUZZ_CHECK(options.from.empty() == options.runs_nowhere_else);
  if (options.command == Command::kEvacuate) {
    FUZZ_CHECK(!options.targets.empty());
    for (const std::string& target : options.targets) FUZZ_CHECK(target != options.from);
  }
  if (options.command == Command::kTop || options.command == Command::kWatch)
    FUZZ_CHECK(!options.agents.empty());
}

void CheckSame(const Options& a, const Options& b) {
  FUZZ_CHECK(a.command == b.command && a.agent == b.agent && a.timeout == b.timeout);
  FUZZ_CHECK(a.vm == b.vm && a.handoff_id == b.handoff_id && a.file == b.file);
  FUZZ_CHECK(a.from == b.from && a.to == b.to && a.targets == b.targets && a.agents == b.agents);
  FUZZ_CHECK(a.apply.SerializeAsString() == b.apply.SerializeAsString());
}

std::string Line(const std::vector<std::string>& words) { return Words().Spell(words); }

}  // namespace

std::vector<std::string> Seeds() {
  return {
      Line({"handoff", "vm1", "--from", "a:1", "--to", "b:1", "--max-error", "1ms"}),
      Line({"-ojson", "--agent", "[::1]:1", "evacuate", "--from", "a:1", "--to", "b:1,c:1"}),
      Line({"migrate-qemu", "--from", "a:1", "--to", "b:1", "--vm", "vm1", "--from-qmp", "unix:/a",
            "--to-qmp", "127.0.0.1:7", "--migrate-uri", "tcp:b:7"}),
      Line({"set", "vm1", "--in", "/tmp/state", "--mode", "exact"}),
      Line({"get", "vm1", "--out", "/tmp/state", "--force"}),
      Line({"reclaim", "vm1", "--runs-nowhere-else", "--epoch-above", "18446744073709551615"}),
      Line({"disown", "vm1", "--handoff", "h-1"}),
      Line({"resume", "h-1", "--from", "a", "--to", "b", "--context", "lab", "--config", "x"}),
      Line({"abort", "h-1", "--from", "a:1", "--to", "b:1"}),
      Line({"clock", "a:1", "b:1", "--peer", "host1:50051"}),
      Line({"drain", "--wait", "5s"}),
      Line({"watch", "--agent", "a:1,b:1", "--interval", "5s", "--json", "--vm", "vm1"}),
      Line({"top", "--agent", "a:1", "--agent", "a:1"}),
      Line({"handoffs", "--stuck"}),
      Line({"contexts", "--example"}),
      Line({"use-context", "lab"}),
      Line({"decode", "/tmp/state"}),
      Line({"--help"}),
      Line({"get", "--help"}),
  };
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff;        // NOLINT: a target is one function
  using namespace tsc_handoff::fuzz;  // NOLINT
  static const bool written = [] {
    WriteScratchFile(kContexts);
    return true;
  }();
  FUZZ_CHECK(written);
  Bytes bytes(data, size);
  std::vector<std::string> words = Words().Take(bytes);
  KeepOffFiles(words);
  const Parsed parsed = tscctl::ParseOptions(words, {});
  const Parsed again = tscctl::ParseOptions(words, {});
  FUZZ_CHECK(parsed.index() == again.index());
  if (const auto* options = std::get_if<Options>(&parsed)) {
    CheckInRange(*options);
    CheckSame(*options, std::get<Options>(again));
  } else if (const auto* help = std::get_if<tscctl::HelpRequest>(&parsed)) {
    FUZZ_CHECK(!help->text.empty());
  } else {
    const auto& error = std::get<tscctl::UsageError>(parsed);
    FUZZ_CHECK(!error.message.empty());
    FUZZ_CHECK(absl::StartsWith(error.help_command, "tscctl "));
  }
  return 0;
}
