#include "server/attach/proc_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace tsc_handoff::attach {
namespace {

using Words = std::vector<absl::string_view>;

Words SplitWords(absl::string_view text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
}

bool ParseHex(absl::string_view text, uint64_t& out) {
  return !text.empty() && absl::SimpleHexAtoi(text, &out);
}

// One "Key:\tvalue" of status. False when it is a key that we need with a value that cannot be
// read.
bool TakeStatusLine(absl::string_view key, const Words& values, TaskStatus& out) {
  if (values.empty()) return true;
  uint64_t mask = 0;
  if (key == "State") {
    out.state = values[0][0];
  } else if (key == "Tgid") {
    return absl::SimpleAtoi(values[0], &out.tgid);
  } else if (key == "TracerPid") {
    return absl::SimpleAtoi(values[0], &out.tracer_pid);
  } else if (key == "NStgid") {
    return absl::SimpleAtoi(values.back(), &out.inner_tgid);
  } else if (key == "NSpid") {
    return absl::SimpleAtoi(values.back(), &out.inner_tid);
  } else if (key == "Seccomp") {
    return absl::SimpleAtoi(values[0], &out.seccomp);
  } else if (key == "SigPnd" || key == "ShdPnd") {
    if (!ParseHex(values[0], mask)) return false;
    out.pending |= mask;
  } else if (key == "SigBlk") {
    return ParseHex(values[0], out.blocked);
  } else if (key == "SigIgn") {
    return ParseHex(values[0], out.ignored);
  } else if (key == "SigCgt") {
    return ParseHex(values[0], out.caught);
  }
  return true;
}

}  // namespace

std::optional<TaskStatus> ParseStatus(absl::string_view text) {
  TaskStatus out;
  pid_t pid = 0;
  bool whole = false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    const absl::string_view key = line.substr(0, colon);
    const Words values = SplitWords(line.substr(colon + 1));
    if (!TakeStatusLine(key, values, out)) return std::nullopt;
    if (key == "Pid" && !values.empty() && !absl::SimpleAtoi(values[0], &pid)) return std::nullopt;
    // The last of those that we need: a text that was cut off before it is worth nothing.
    whole |= key == "Seccomp" && !values.empty();
  }
  if (!whole || out.state == '?' || out.tgid <= 0 || pid <= 0) return std::nullopt;
  if (out.inner_tgid <= 0) out.inner_tgid = out.tgid;
  if (out.inner_tid <= 0) out.inner_tid = pid;
  return out;
}

std::optional<TaskSyscall> ParseSyscall(absl::string_view text) {
  const Words words = SplitWords(text);
  TaskSyscall out;
  if (words.empty()) return std::nullopt;
  if (words[0] == "running") {
    out.running = true;
    return out;
  }
  if (!absl::SimpleAtoi(words[0], &out.number)) return std::nullopt;
  if (out.number < 0) return out;
  // The number, six arguments, stack pointer, instruction pointer.
  if (words.size() != 9) return std::nullopt;
  for (size_t i = 0; i < out.args.size(); ++i) {
    if (!ParseHex(words[i + 1], out.args[i])) return std::nullopt;
  }
  return out;
}

std::vector<Mapping> ParseMaps(absl::string_view text) {
  std::vector<Mapping> out;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    // start-end perms offset device inode [name, which may hold spaces]
    const Words words = SplitWords(line);
    if (words.size() < 5 || words[1].size() != 4) continue;
    const std::pair<absl::string_view, absl::string_view> range = absl::StrSplit(words[0], '-');
    Mapping mapping;
    if (!ParseHex(range.first, mapping.start) || !ParseHex(range.second, mapping.end)) continue;
    if (mapping.end <= mapping.start) continue;
    mapping.readable = words[1][0] == 'r';
    mapping.executable = words[1][2] == 'x';
    mapping.shared = words[1][3] == 's';
    if (words.size() > 5) {
      const size_t name = static_cast<size_t>(words[5].data() - line.data());
      mapping.name = std::string(absl::StripAsciiWhitespace(line.substr(name)));
    }
    out.push_back(std::move(mapping));
  }
  return out;
}

}  // namespace tsc_handoff::attach
