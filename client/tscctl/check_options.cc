#include "client/tscctl/check_options.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/lib/agent_client.h"
#include "client/qmp/qmp_address.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr size_t kMaxIdBytes = 128;
constexpr absl::Duration kMinTimeout = absl::Milliseconds(1);
constexpr absl::Duration kMaxTimeout = absl::Minutes(10);
// Between two rounds of questions to an agent.
constexpr absl::Duration kMinInterval = absl::Milliseconds(100);
constexpr absl::Duration kMaxInterval = absl::Hours(1);
// Longer than any real one; keeps nanoseconds far below 2^63.
constexpr absl::Duration kMaxError = absl::Hours(1);
constexpr absl::Duration kMaxElapsed = absl::Hours(24 * 365 * 10);

// What is wrong, empty when all is well.
using Problem = std::string;

// `whose` is "VM" or "handoff".
Problem CheckId(const std::string& whose, const std::string& id) {
  if (id.empty()) return absl::StrCat("the ", whose, "'s id is empty");
  if (id.size() > kMaxIdBytes) {
    return absl::StrCat("the ", whose, "'s id has ", id.size(), " characters; the limit is ",
                        kMaxIdBytes);
  }
  for (const char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("._:-", absl::string_view(&c, 1))) {
      return absl::StrCat(whose, " id \"", id, "\" has a character other than A-Z a-z 0-9 . _ : -");
    }
  }
  return "";
}

Problem CheckVmId(const std::string& vm_id) { return CheckId("VM", vm_id); }

Problem ParseDurationOption(const std::string& name, const std::string& text, absl::Duration low,
                            absl::Duration high, absl::Duration* duration) {
  if (!absl::ParseDuration(text, duration)) {
    return absl::StrCat(name, " ", text,
                        " is not a duration; write for example 500us, 5s or 1m30s");
  }
  if (*duration < low || *duration > high) {
    return absl::StrCat(name, " ", text, " is not from ", absl::FormatDuration(low), " to ",
                        absl::FormatDuration(high));
  }
  return "";
}

Problem FinishApply(const OptionWords& words, Options* options) {
  v1::SetTscStateRequest* apply = &options->apply;
  const bool exact = words.mode == "exact";
  apply->set_mode(exact ? v1::APPLY_MODE_EXACT : v1::APPLY_MODE_ELAPSED);
  if (exact) {
    const char* unused = !words.max_error.empty()         ? "--max-error"
                         : !words.max_elapsed.empty()     ? "--max-elapsed"
                         : apply->allow_untrusted_clock() ? "--allow-untrusted-clock"
                         : !apply->source_agent().empty() ? "--source-agent"
                         : !options->probe                ? "--no-probe"
                                                          : nullptr;
    if (unused != nullptr)
      return absl::StrCat(unused, " has no meaning with --mode exact, which uses no clock");
  }
  absl::Duration duration;
  if (!words.max_error.empty()) {
    Problem problem = ParseDurationOption("--max-error", words.max_error, absl::Nanoseconds(1),
                                          kMaxError, &duration);
    if (!problem.empty()) return problem;
    apply->set_max_error_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration)));
  }
  if (!words.max_elapsed.empty()) {
    Problem problem = ParseDurationOption("--max-elapsed", words.max_elapsed, absl::Nanoseconds(1),
                                          kMaxElapsed, &duration);
    if (!problem.empty()) return problem;
    apply->set_max_elapsed_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration)));
  }
  const bool is_set = options->command == Command::kSet || options->command == Command::kHandoff;
  if (apply->validate_only() && !is_set)
    return "--validate-only is for `tscctl set` and `tscctl handoff`";
  if (options->command == Command::kResume || options->command == Command::kEvacuate) return "";
  apply->set_vm_id(words.to_vm.empty() ? options->vm : words.to_vm);
  return CheckVmId(apply->vm_id());
}

Problem CheckFile(const std::string& file) {
  if (file.empty()) return "the file's name is empty";
  return file == "-" ? "\"-\" is not supported; name a file" : "";
}

Problem CheckAddress(const std::string& address) {
  return std::string(client::AgentClient::Connect(address).status().message());
}

Problem CheckEnds(const Options& options) {
  Problem problem = CheckAddress(options.from);
  return problem.empty() ? CheckAddress(options.to) : problem;
}

Problem CheckMigrateQemu(const OptionWords& words, Options* options) {
  const QemuOptions& qemu = options->qemu;
  for (const std::string& monitor : {qemu.from_qmp, qemu.to_qmp}) {
    const absl::StatusOr<qmp::QmpAddress> address = qmp::ParseQmpAddress(monitor);
    if (!address.ok()) return std::string(address.status().message());
  }
  if (qemu.from_qmp == qemu.to_qmp) return "--from-qmp and --to-qmp are the same monitor";
  if (qemu.migrate_uri.empty()) return "--migrate-uri is empty";
  if (qemu.plain) {
    const bool with_agents = !options->from.empty() || !options->to.empty() || !options->vm.empty();
    return with_agents ? "--plain asks no agent: --from, --to and --vm have no meaning with it"
                       : "";
  }
  if (options->from.empty() || options->to.empty() || options->vm.empty())
    return "--from, --to and --vm are required, except with --plain";
  Problem problem = CheckVmId(options->vm);
  if (problem.empty() && !options->handoff_id.empty())
    problem = CheckId("handoff", options->handoff_id);
  if (problem.empty()) problem = FinishApply(words, options);
  // QEMU sets the VM's kvmclock when it resumes it, after everything that an agent could write.
  options->apply.set_keep_kvmclock(true);
  return problem.empty() ? CheckEnds(*options) : problem;
}

Problem CheckClock(const Options& options) {
  if (options.to.empty()) return CheckAddress(options.agent);
  if (options.from == options.to) return "A and B are the same agent";
  Problem problem = CheckAddress(options.from);
  return problem.empty() ? CheckAddress(options.to) : problem;
}

Problem CheckOwnership(const Options& options) {
  Problem problem = CheckVmId(options.vm);
  const bool reclaim = options.command == Command::kReclaim;
  if (problem.empty() && !(reclaim && options.handoff_id.empty()))
    problem = CheckId("handoff", options.handoff_id);
  if (problem.empty() && reclaim && options.from.empty() && !options.runs_nowhere_else) {
    problem =
        "say which agent is to disown the VM (--from ADDRESS), or, if that host is lost, "
        "--runs-nowhere-else";
  }
  if (problem.empty() && !options.from.empty()) problem = CheckAddress(options.from);
  return problem.empty() ? CheckAddress(options.agent) : problem;
}

Problem FinishFollow(const OptionWords& words, Options* options) {
  if (options->command == Command::kTop && options->json) {
    return "`tscctl top` draws on a terminal; for JSON use `tscctl watch --json`, or `tscctl vms` "
           "and `tscctl handoffs` with -o json";
  }
  if (options->agents.empty()) options->agents = {options->agent};
  std::vector<std::string> once;
  for (const std::string& agent : options->agents) {
    if (std::find(once.begin(), once.end(), agent) != once.end()) continue;
    Problem problem = CheckAddress(agent);
    if (!problem.empty()) return problem;
    once.push_back(agent);
  }
  options->agents = std::move(once);
  if (!options->vm.empty()) {
    Problem problem = CheckVmId(options->vm);
    if (!problem.empty()) return problem;
  }
  return ParseDurationOption("--interval", words.interval, kMinInterval, kMaxInterval,
                             &options->interval);
}

}  // namespace

std::string CheckOptions(const OptionWords& words, Options* options) {
  options->json = words.output == "json";
  Problem problem =
      ParseDurationOption("--timeout", words.timeout, kMinTimeout, kMaxTimeout, &options->timeout);
  if (!problem.empty()) return problem;
  switch (options->command) {
    case Command::kVersion:
    case Command::kContexts:
    case Command::kUseContext:
      return "";
    case Command::kHost:
    case Command::kVms:
      return CheckAddress(options->agent);
    case Command::kClock:
      return CheckClock(*options);
    case Command::kDecode:
      return CheckFile(options->file);
    case Command::kGet:
      problem = CheckVmId(options->vm);
      if (problem.empty() && options->file == "-") problem = CheckFile(options->file);
      return problem.empty() ? CheckAddress(options->agent) : problem;
    case Command::kSet:
      problem = CheckVmId(options->vm);
      if (problem.empty()) problem = CheckFile(options->file);
      if (problem.empty()) problem = CheckAddress(options->agent);
      return problem.empty() ? FinishApply(words, options) : problem;
    case Command::kDrain:
      problem = ParseDurationOption("--wait", words.wait, absl::ZeroDuration(), kMaxTimeout,
                                    &options->wait);
      return problem.empty() ? CheckAddress(options->agent) : problem;
    case Command::kUndrain:
    case Command::kReload:
      return CheckAddress(options->agent);
    case Command::kReclaim:
    case Command::kDisown:
      return CheckOwnership(*options);
    case Command::kHandoffs:
      if (!options->vm.empty()) problem = CheckVmId(options->vm);
      return problem.empty() ? CheckAddress(options->agent) : problem;
    case Command::kTop:
    case Command::kWatch:
      return FinishFollow(words, options);
    case Command::kResume:
      problem = CheckId("handoff", options->handoff_id);
      if (problem.empty()) problem = FinishApply(words, options);
      return problem.empty() ? CheckEnds(*options) : problem;
    case Command::kAbort:
      problem = CheckId("handoff", options->handoff_id);
      return problem.empty() ? CheckEnds(*options) : problem;
    case Command::kMigrateQemu:
      return CheckMigrateQemu(words, options);
    case Command::kEvacuate:
      problem = FinishApply(words, options);
      if (problem.empty()) problem = CheckAddress(options->from);
      for (const std::string& target : options->targets) {
        if (problem.empty()) problem = CheckAddress(target);
        if (problem.empty() && target == options->from)
          problem = "a host cannot be evacuated to itself";
      }
      return problem;
    case Command::kHandoff:
      problem = CheckVmId(options->vm);
      if (problem.empty() && !options->handoff_id.empty())
        problem = CheckId("handoff", options->handoff_id);
      if (problem.empty()) problem = FinishApply(words, options);
      if (problem.empty()) problem = CheckEnds(*options);
      if (problem.empty() && options->from == options->to &&
          options->vm == options->apply.vm_id()) {
        problem = "source and destination are the same VM of the same agent";
      }
      return problem;
  }
  return "";
}

}  // namespace tsc_handoff::tscctl
